"""Hyperparameter search: one training after another, each a trial."""
