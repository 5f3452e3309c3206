"""Room `promote`: compare-and-swap of the champion, an append-only ledger, rollback."""
