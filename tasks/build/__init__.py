"""Room `build`: generates instruction rows where too few were collected. They are ingested and validated like any other row."""
