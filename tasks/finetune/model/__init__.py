"""The model that is trained: built, started from earlier weights, saved."""
