"""Text generation for evaluation, the builder of rows, and serving: one entry for all of them (decision 23)."""
