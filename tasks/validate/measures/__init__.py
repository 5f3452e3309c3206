"""Measures of a column of texts, and the expressions of a contract over them."""
