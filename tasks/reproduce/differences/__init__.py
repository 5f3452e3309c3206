"""How much two versions of an output differ: rows of tables, tensors of weights, numbers of reports."""
