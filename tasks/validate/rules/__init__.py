"""The rules of a row."""
