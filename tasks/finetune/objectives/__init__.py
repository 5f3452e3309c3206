"""What a training may optimise: the trainers of each objective."""
