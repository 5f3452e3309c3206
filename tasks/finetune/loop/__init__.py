"""The training loop: checkpoints, signals, progress and threads."""
