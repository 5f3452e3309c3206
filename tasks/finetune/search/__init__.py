"""The search for settings: one training after another, each a trial."""
