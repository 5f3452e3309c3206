"""A training from its first step to its last: checkpoints, signals, progress."""
