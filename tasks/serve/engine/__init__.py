"""Generation while requests come and go: each joins a running batch, streams its answer, and may be cancelled."""
