"""The training objectives and their trainers."""
