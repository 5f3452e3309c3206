"""A row by itself: what is taken out of its texts, and what it is dropped for."""
