"""What `strop doctor` examines."""
