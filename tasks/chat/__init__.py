"""Conversations as model input: turns → the text of the chat template → token ids."""
