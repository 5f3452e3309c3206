"""The links of a version's page to files of its run. In the page they have the scheme `run:`, in MLflow's UI the run's address."""

from __future__ import annotations

import re

_LINK = re.compile(r"\]\((?:run:|#/experiments/[^/\s)]+/runs/[^/\s)]+/artifactPath/)")


def run_link(title: str, name: str) -> str:
    """A Markdown link to a file of the run."""
    return f"[{title}](run:{name})"


def with_addresses(page: str, experiment_id: str, run_id: str) -> str:
    """The page with links to the files of this run."""
    return page.replace("](run:", f"](#/experiments/{experiment_id}/runs/{run_id}/artifactPath/")


def with_any_addresses(page: str) -> str:
    """A pattern for the page with links to the files of any run."""
    return _LINK.pattern.join(re.escape(part) for part in _LINK.split(page.strip()))
