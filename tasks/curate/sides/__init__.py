"""The split of rows: training, validation or test."""
