"""Room `render`: curated rows × templates → token ids, loss mask, positions, packed."""
