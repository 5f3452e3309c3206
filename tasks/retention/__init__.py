"""Room `retention`: removes the files of refused candidates, old checkpoints and caches that nothing needs (`strop gc`)."""
