"""Room `register`: candidate, verdict and receipt → a version in the MLflow registry, a commit and a tag."""
