"""One training step, fast and in little memory."""
