"""The served-path check: a version enters service behind another engine than the one that judged it only after its test rows went
through that engine."""
