"""Records, in whatever shape and order they came, as rows."""
