"""Room `evaluate`: base, champion and candidate answer the same test rows → predictions, metrics a family, plots."""
