"""What a run needs around it: its folder, locks, the Prefect server, signals, private files."""
