"""Room `erase`: removes the text of rows from all of Strop's data, and records the erasure."""
