"""A file of any format as records."""
