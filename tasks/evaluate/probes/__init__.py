"""Probes of `evaluate`: test rows with typos, other wording or instructions hidden in them, and with words of a list swapped."""
