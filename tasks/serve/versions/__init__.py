"""Which version answers: names, the ledger as it changes, loading beside the version in service, and the change of versions."""
