"""Packing: examples in rows of a fixed length."""
