"""Conversations as a model reads them: turns → the text of its chat template → token ids."""
