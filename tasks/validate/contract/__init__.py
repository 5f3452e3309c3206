"""The rules for the rows of each family."""
