"""What may be set, and what does not go together."""
