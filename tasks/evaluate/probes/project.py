"""The probes of a project: templates and context length are read from it, and data/predictions/probes is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tasks import paths
from tasks.base.convert import base_folder
from tasks.base.heads import context_length_of
from tasks.base.pin import BaseRecord
from tasks.dataset.rendered import TEMPLATES
from tasks.evaluate.predictions import Row
from tasks.evaluate.probes.measures import PROBES_SCHEMA, ProbeResult
from tasks.evaluate.probes.plan import Plan, plan_probes, prompt_encoder
from tasks.evaluate.settings import EvaluateSettings
from tasks.runtime.files import read_json, write_parquet
from tasks.state.round import read_round


def open_probes(test: Sequence[Row], form: str, record: BaseRecord, tokenizer: Any, settings: EvaluateSettings) -> Plan:
    """The rows of the probes; none without `evaluate.probes`, and none for models that neither answer nor classify."""
    if settings.probes is None or form in ("texts", "ranked"):
        return Plan(())
    longest = _max_prompt_tokens(form, record, settings)
    templates = read_json(TEMPLATES).get("families", {})
    return plan_probes(test, templates, settings.probes, prompt_encoder(tokenizer, longest))


def write_probes(role: str, result: ProbeResult) -> None:
    """Writes data/predictions/probes/<role>.parquet; nothing without probes."""
    if result.rows:
        write_parquet(paths.PROBES / f"{role}.parquet", pa.Table.from_pylist(result.rows, PROBES_SCHEMA))


def _max_prompt_tokens(form: str, record: BaseRecord, settings: EvaluateSettings) -> int | None:
    """The longest prompt that every model of the round accepts; None if there is no limit."""
    from transformers import AutoConfig

    positions = context_length_of(AutoConfig.from_pretrained(base_folder(record)))
    if positions is None:
        return None
    champion = read_round().champion
    folders = [paths.MODEL, *([paths.MODELS / champion.weights_digest] if champion else [])]
    adapters = [read_json(file) for folder in folders if (file := folder / "adapter_config.json").is_file()]
    virtual = max((adapter.get("num_virtual_tokens") or 0 for adapter in adapters), default=0)
    return max(1, positions - virtual - (0 if form == "labels" else settings.max_new_tokens))
