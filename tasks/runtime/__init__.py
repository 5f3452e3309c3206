"""General building blocks: files, processes, progress, bounded parsers, redaction of secrets."""
