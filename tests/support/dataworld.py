"""The data rooms run for real, by DVC, and committed as a registration would: for tests of what looks back at versions."""

from __future__ import annotations

from support.toyworld import git

SOURCES = [
    {"name": "topic", "path": "inbox/topic*", "shape": "text_label", "family": "topic"},
    {"name": "qa", "path": "inbox/qa*", "shape": "alpaca", "family": "qa"},
]


def collect(*stages: str) -> str:
    """Ingests, reproduces the stages, and commits; returns the commit."""
    from tasks.config import load_config
    from tasks.ingest.stage import run
    from tasks.vcs import dvc_pipeline

    run(load_config())
    for name in stages:
        dvc_pipeline.reproduce(name)
    git("add", "-A", "-f", "dvc.lock", "data/raw.dvc", "data/decisions.jsonl")
    git("commit", "-q", "--allow-empty", "-m", "data")
    return git("rev-parse", "HEAD").strip()
