"""Room `audit`: a version → its receipt, verified link by link; rebuild and compare."""
