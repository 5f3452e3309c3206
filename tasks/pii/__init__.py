"""Personal data and secrets in the texts of a row."""
