"""The folder that a run works in: a copy of its inputs, and links to everything else."""
