"""Examples in rows of a fixed length."""
