"""Room `ingest`: sources → immutable raw batches, the manifest, and what the world looked like when the round began."""
