"""Settings of a training, and checks of their combinations."""
