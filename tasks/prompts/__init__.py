"""Prompts as models see them in training, evaluation and serving: templates, chat templates, token ids."""
