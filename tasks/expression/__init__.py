"""Conditions over the columns of a table: bounded expressions and regular expressions, and the measures of texts that they use."""
