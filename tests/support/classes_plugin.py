"""A plugin with a kind of answer of its own, `stars`, whose answers are classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks import paths
from tasks.runtime.plugins import unload_plugins

NAME = "stars"
CODE = """\
from tasks.scoring.answer_parsers import parse_label
from tasks.scoring.metrics import METRICS, Metric

METRICS.add("stars", Metric("exact match", parse_label, is_classification=True))
"""


@contextmanager
def classes_plugin(family: str) -> Iterator[str]:
    """Writes the plugin into the project in the working directory, and gives a family its kind. For `plugins` in params.yaml."""
    Path(f"{NAME}.py").write_text(CODE)
    templates = paths.TEMPLATES / f"{family}.yaml"
    text = templates.read_text(encoding="utf-8")
    assert "kind: classification" in text
    templates.write_text(text.replace("kind: classification", f"kind: {NAME}"), encoding="utf-8")
    try:
        yield NAME
    finally:
        unload_plugins()
