"""Room `lineage` (a reader): where a row came from and what became of it, and how two versions of the dataset differ."""
