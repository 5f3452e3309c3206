"""Room `evaluate`: predictions of base, champion and candidate on the same test rows → metrics by family, plots."""
