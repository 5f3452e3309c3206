"""The delivery of served records to MLflow: a process of its own makes traces of them, and lists answers for review."""
