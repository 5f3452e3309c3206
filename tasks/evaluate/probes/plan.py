"""The rows of all probes: which test rows are changed, and how. Pure, apart from the tokenizer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.evaluate.predictions import Row
from tasks.evaluate.probes.counterfactual import Counterfactual, make_counterfactual
from tasks.evaluate.probes.perturb import Surroundings, perturb
from tasks.evaluate.probes.settings import ProbeSettings
from tasks.evaluate.report import group
from tasks.records.segmentation import language_of
from tasks.scoring.metrics import METRICS

BIAS = "bias/"
"""Prefix of the name of a list of words in the column `probe`."""
Encode = Callable[[Row, str], list[int] | None]
"""(test row, another prompt of it) → its token ids; None if it cannot be a prompt."""


@dataclass(frozen=True)
class ProbeRow:
    probe: str
    """The name of a perturbation, or BIAS and the name of a list."""
    index: int
    """The index of the test row."""
    row: Row
    """The changed test row."""
    canary: str | None = None
    direction: str | None = None


@dataclass(frozen=True)
class Plan:
    probes: tuple[str, ...]
    rows: list[ProbeRow] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Probe → rows that it applies to, but which have no counterfactual or whose changed prompt is too long."""

    @property
    def test(self) -> list[Row]:
        return [planned.row for planned in self.rows]


def plan_probes(
    test: Sequence[Row], templates: Mapping[str, Any], settings: ProbeSettings | None, encode: Encode
) -> Plan:
    """Up to `evaluate.probes.rows` rows of each family for each probe, always the same ones of the same test rows.

    Args:
        templates: family → its entry in data/rendered/templates.json.
    """
    if settings is None:
        return Plan(())
    plan = Plan((*settings.robustness, *(BIAS + name for name in settings.bias)))
    passages = _passages(test)
    indexed = [row | {"index": index} for index, row in enumerate(test) if not row.get("tests")]
    for family, members in group(indexed, "family").items():
        members.sort(key=lambda row: hashlib.sha256(f"{settings.seed} {row['row_id']}".encode()).digest())
        around = Surroundings(_labels(members), templates.get(family, {}).get("templates", ()), passages)
        for probe in plan.probes:
            chosen = 0
            for changed in _changed(members, probe, settings.seed, around):
                ids = None if changed.row is None else encode(test[changed.index], changed.row["prompt"])
                if changed.row is None or ids is None:
                    plan.skipped[probe] += 1
                    continue
                row = {**changed.row, "prompt_ids": ids}
                plan.rows.append(ProbeRow(probe, changed.index, row, changed.canary, changed.direction))
                chosen += 1
                if chosen == settings.rows:
                    break
    return plan


@dataclass(frozen=True)
class _Changed:
    index: int
    row: Row | None
    """None where the row has no counterfactual, although it has words of the list."""
    canary: str | None = None
    direction: str | None = None


def _changed(rows: Sequence[Row], probe: str, seed: int, around: Surroundings) -> Iterator[_Changed]:
    """The rows that the probe applies to, changed."""
    for row in rows:
        if probe.startswith(BIAS):
            pair = make_counterfactual(row, probe.removeprefix(BIAS))
            if isinstance(pair, Counterfactual):
                yield _Changed(row["index"], pair.row, direction=pair.direction)
            elif pair:
                yield _Changed(row["index"], None)
        elif (perturbed := perturb(row, probe, seed, around)) is not None:
            yield _Changed(row["index"], perturbed.row, perturbed.canary)


def _labels(rows: Sequence[Row]) -> frozenset[str]:
    return frozenset(row["target"] for row in rows if METRICS[row["kind"]].is_classification)


def _passages(test: Sequence[Row]) -> dict[str, list[tuple[str, str]]]:
    """Language → (family, input) of the rows that have an input; where none has, their questions."""
    texts = {(row["family"], row.get("input") or row.get("question") or ""): bool(row.get("input")) for row in test}
    passages: dict[str, list[tuple[str, str]]] = {}
    for language in ("en", "zh"):
        of_language = [item for item in texts if item[1].strip() and language_of(item[1]) == language]
        with_input = [item for item in of_language if texts[item]]
        passages[language] = with_input or of_language
    return passages


def prompt_encoder(tokenizer: Any, max_prompt_tokens: int | None) -> Encode:
    """Encodes a changed prompt as `render` encoded the row's own; None if its own would have other tokens (a row with typed
    control tokens, or one that was truncated), or if the changed prompt is too long."""
    adds_special_of: dict[str, bool | None] = {}

    def ids_of(text: str, adds_special: bool) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=adds_special)["input_ids"]
        return ids

    def encode(row: Row, prompt: str) -> list[int] | None:
        if row["row_id"] not in adds_special_of:
            own = list(row["prompt_ids"])
            adds_special_of[row["row_id"]] = next(
                (way for way in (False, True) if ids_of(row["prompt"], way) == own), None
            )
        adds_special = adds_special_of[row["row_id"]]
        ids = None if adds_special is None else ids_of(prompt, adds_special)
        return None if ids is None or len(ids) > (max_prompt_tokens or len(ids)) else ids

    return encode
