"""A canary: which units it answers, what their ratings are worth, and what follows from them. Pure."""
