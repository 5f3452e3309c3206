"""Builds the model to train, loads its start weights, and saves the result."""
