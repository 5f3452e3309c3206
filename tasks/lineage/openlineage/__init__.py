"""OpenLineage events of runs and stages."""
