"""The state that the project keeps between runs: batches, the round, decisions and erasures."""
