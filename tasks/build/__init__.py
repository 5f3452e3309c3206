"""Room `build`: makes instruction rows where too few were collected. Nothing of it goes past the contract."""
