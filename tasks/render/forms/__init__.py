"""The forms in which rows are rendered, one for each way of training."""
