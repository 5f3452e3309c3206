"""Room `curate`: accepted rows → cleaned, deduplicated, split into train, valid and test; one immutable part per batch."""
