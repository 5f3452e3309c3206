"""What the tests of the sources share: a source as params.yaml would say it, ingested in the folder that the test stands in."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq

from tasks.ingest.settings import IngestSettings
from tasks.ingest.sources import IngestResult, ingest_sources
from tasks.state.manifest import read_manifest


def settings(*sources: dict[str, Any]) -> IngestSettings:
    return IngestSettings.model_validate_json(json.dumps({"sources": list(sources)}))


def ingest(*sources: dict[str, Any]) -> IngestResult:
    return ingest_sources(settings(*sources))


def raw_rows(source: str) -> list[dict[str, Any]]:
    """The source's raw rows, in order of arrival."""
    return [row for b in read_manifest() if b.source == source for row in pq.read_table(b.path).to_pylist()]


def records(source: str) -> list[Any]:
    """The source's records that parsed."""
    return [json.loads(row["record"]) for row in raw_rows(source) if row["record"] is not None]


def errors(source: str) -> list[str]:
    """Why the others did not, as codes."""
    return [row["error"].split(":")[0] for row in raw_rows(source) if row["error"] is not None]
