"""What the project remembers from one run to the next: batches, the round, decisions and erasures."""
