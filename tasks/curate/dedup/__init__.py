"""Rows compared with each other: duplicates, near-duplicates, shared text."""
