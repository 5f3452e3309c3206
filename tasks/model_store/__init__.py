"""Versions of a model: ledger, receipts, weights, and which one serves."""
