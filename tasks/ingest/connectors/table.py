"""The source kinds. A new kind is its module and an entry here; a plugin adds its own with `CONNECTORS.add`.

Connectors are named, not imported: all commands read params.yaml, and settings and connectors would import each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from tasks.base.settings import is_folder, is_hub_id
from tasks.runtime.base_settings import Settings
from tasks.runtime.plugin_table import PluginTable


def _no_problem(settings: Mapping[str, Any]) -> None:
    return None


@dataclass(frozen=True)
class SourceKind:
    """A kind of source: its connector, and the settings that a source of it may have."""

    connector: str
    """`module:name` of a `Connector` class, or of a function from the source to a connector; imported when it is used."""
    requires: Set[str] = frozenset()
    """Settings of `Source` that it needs."""
    allows: Set[str] = frozenset()
    """Settings of `Source` that it may have, beside those of all kinds."""
    options: type[Settings] | None = None
    """Model of the setting `options`: settings of a plugin's kind that `Source` does not have."""
    problem: Callable[[Mapping[str, Any]], str | None] = _no_problem
    """From a source's settings to what is wrong with their combination; None if nothing is."""


def _hub_problem(settings: Mapping[str, Any]) -> str | None:
    path = settings["path"]
    if path and not is_hub_id(path) and not is_folder(path):
        return f"path: `{path}` is neither a folder nor the id of a dataset, which is `owner/name`"
    return None


def _sql_problem(settings: Mapping[str, Any]) -> str | None:
    url = settings["url"]
    if "://" not in url and not url.startswith("${"):
        return "url: begins with the kind of database: `sqlite:///data.db`, `postgresql://…`"
    if (settings["table"] is None) == (settings["query"] is None):
        return "kind `sql` needs either `table` or `query`"
    if settings["overlap"] is not None and settings["watermark"] is None:
        return "`overlap` is subtracted from a `watermark`; add that setting"
    return None


def _traces_problem(settings: Mapping[str, Any]) -> str | None:
    if settings["shape"] != "messages":
        return "kind `traces` returns records of shape `messages`"
    if settings["rating"] is None and settings["answer"] is None:
        return "kind `traces` needs `rating`, `answer` or both: they select the traces with good answers"
    return None


def _served_problem(settings: Mapping[str, Any]) -> str | None:
    if settings["shape"] != "row":
        return "kind `served` returns records of shape `row`"
    if (settings["tracking_uri"] is None) != (settings["experiment"] is None):
        return "kind `served` needs both `tracking_uri` and `experiment`, or neither: where people review answers in MLflow"
    return None


CONNECTORS: PluginTable[SourceKind] = PluginTable(
    "source kind",
    {
        "files": SourceKind(
            "tasks.ingest.connectors.local:connect_files",
            requires={"path"},
            allows={
                *("format", "encoding", "text_unit", "parallel", "settle_seconds", "follow_links"),
                *("max_uncompressed_bytes", "image_folder", "storage_options"),
            },
        ),
        "hub": SourceKind(
            "tasks.ingest.connectors.hub:HubDataset",
            requires={"path"},
            allows={"revision", "subset", "split", "image_folder", "max_uncompressed_bytes"},
            problem=_hub_problem,
        ),
        "sql": SourceKind(
            "tasks.ingest.connectors.sql:Database",
            requires={"url"},
            allows={"table", "query", "watermark", "overlap", "image_folder"},
            problem=_sql_problem,
        ),
        "traces": SourceKind(
            "tasks.ingest.connectors.traces:Traces",
            requires={"tracking_uri", "experiment"},
            allows={"rating", "rating_min", "answer"},
            problem=_traces_problem,
        ),
        "served": SourceKind(
            "tasks.ingest.connectors.served:Served",
            allows={
                *("rating", "rating_min", "feedback_from", "cap_per_user", "free_prompts"),
                *("tracking_uri", "experiment"),
            },
            problem=_served_problem,
        ),
    },
    stages=(),  # the stages read batches, not sources
)
