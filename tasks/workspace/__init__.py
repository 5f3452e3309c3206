"""The folder of a run: a copy of its inputs, and links to all other files."""
