"""Versions of a model: ledger, receipts, weights, and which version serves."""
