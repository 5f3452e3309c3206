"""Training, validation or test: on which side a row is."""
