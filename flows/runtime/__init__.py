"""The environment of a run: its folder, locks, the Prefect server, signals, private files."""
