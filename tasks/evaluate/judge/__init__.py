"""The pairwise judge: which of two free-form answers is better, by a model behind an endpoint."""
