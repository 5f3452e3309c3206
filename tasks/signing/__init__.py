"""Signatures of receipts and ledger entries: made with OpenSSF model-signing, stored in git, verified with trusted certificates."""
