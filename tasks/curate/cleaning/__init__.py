"""Cleaning of single rows, and statistics of their text."""
