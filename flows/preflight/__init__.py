"""The checks before a run: `strop check`, which `strop run` and the flow call first."""
