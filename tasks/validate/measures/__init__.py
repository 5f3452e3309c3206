"""Measures of texts that only `validate` needs: damaged encodings, and scripts."""
