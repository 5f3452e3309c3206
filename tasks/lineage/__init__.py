"""Room `lineage` (read-only): the history of a row, and the differences between two dataset versions."""
