"""Answers of code, scored by their tests."""
