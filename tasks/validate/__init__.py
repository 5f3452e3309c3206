"""Room `validate`: raw batches × the contract → accepted rows, and a quarantine with a reason a row."""
