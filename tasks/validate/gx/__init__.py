"""Great Expectations: the contract as a suite, and its Data Docs."""
