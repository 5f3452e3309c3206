"""What is new, gone or changed in a source."""
