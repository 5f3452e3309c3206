"""Answers: how they are read, compared with a target, and how two models are compared on them."""
