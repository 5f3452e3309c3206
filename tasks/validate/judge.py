"""The verdict on a batch: which rows are accepted, which refused and why, and whether the batch is set aside whole. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa

from tasks.row import QUARANTINE_SCHEMA, ROW_SCHEMA
from tasks.validate.contract import FamilyContract
from tasks.validate.damage import mojibake_runs, replacement_characters
from tasks.validate.frame import shown
from tasks.validate.rules import RULES, Rule, rules_of

SET_ASIDE = "batch_set_aside"
DROPPED = "dropped_by_decision"


@dataclass(frozen=True)
class Facts:
    """What a batch came to."""

    batch: str
    source: str
    rows: int
    accepted: int
    refused: int
    """Rows in quarantine: all of them, where the batch is set aside."""
    released: int
    """Rows that break a rule and were accepted, because a person decided so."""
    state: str
    """`accepted` or `set_aside`."""
    refused_share: float
    """The share that breaks a rule and is not released; rows dropped by decision do not count."""
    reasons: dict[str, int]
    """Of the rows that break a rule: how many, by the rule."""
    broken: dict[str, int] = field(default_factory=dict)
    """Rows that break each rule of the contract, first or not: what Data Docs must show."""

    @property
    def top_reasons(self) -> list[list[Any]]:
        """The three most frequent reasons."""
        ranked = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        return [[reason, count] for reason, count in ranked[:3]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    accepted: pa.Table
    quarantined: pa.Table
    facts: Facts


def judge(
    frame: pd.DataFrame,
    contract: FamilyContract,
    max_refused_share: float,
    released: frozenset[str] = frozenset(),
    dropped: frozenset[str] = frozenset(),
) -> Judged:
    """Judges one batch.

    Args:
        frame: as `to_frame` makes it.
        max_refused_share: the bound; a batch over it is set aside whole.
        released: ids of rows that people accept although they break a rule. A record that is no row stays refused.
        dropped: ids of rows that people refuse.
    """
    reason, broken = _reasons(frame, contract)
    is_dropped = frame["row_id"].isin(dropped)
    is_released = frame["row_id"].isin(released) & ~is_dropped & (frame["problem"] == "")
    is_refused = (reason != "") & ~is_released & ~is_dropped
    judged_rows = int((~is_dropped).sum())
    share = float(is_refused.sum()) / judged_rows if judged_rows else 0.0
    is_too_small = len(frame) < contract.min_batch_rows
    is_set_aside = share > max_refused_share or is_too_small
    counts = Counter(reason[is_refused])
    if is_too_small:
        counts["too_few_rows"] = len(frame)

    final = reason.where(~is_released, "")
    if is_set_aside:  # a row that a person released by name is still accepted
        final = final.where((final != "") | is_released, SET_ASIDE)
    final = final.where(~is_dropped, DROPPED)
    accepted = frame[final == ""]
    refused = frame[final != ""]
    facts = Facts(
        batch=frame["batch"].iloc[0],
        source=frame["source"].iloc[0],
        rows=len(frame),
        accepted=len(accepted),
        refused=len(refused),
        released=int((is_released & ((reason != "") | is_set_aside)).sum()),
        state="set_aside" if is_set_aside else "accepted",
        refused_share=round(share, 6),
        reasons=dict(sorted(counts.items())),
        broken=broken,
    )
    return Judged(_table(accepted, ROW_SCHEMA), _quarantine(refused, final[final != ""], contract), facts)


def _reasons(frame: pd.DataFrame, contract: FamilyContract) -> tuple[pd.Series[str], dict[str, int]]:
    """For each row the first rule that it breaks ("" for none), and how many rows break each rule."""
    reason = pd.Series("", index=frame.index, dtype=object)
    broken = {}
    for rule in rules_of(contract):
        is_broken = ~rule.is_good(frame, contract)
        broken[rule.code] = int(is_broken.sum())
        reason = reason.where(~is_broken | (reason != ""), rule.code)
    return reason, broken


def _table(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pydict({name: rows[name].tolist() for name in schema.names}, schema=schema)


_RULE_OF: dict[str, Rule] = {rule.code: rule for rule in RULES}


def _quarantine(rows: pd.DataFrame, reasons: pd.Series[str], contract: FamilyContract) -> pa.Table:
    lines = rows[["row_id", "batch", "index", "source", "file", "line", "record"]].to_dict("records")
    for line, reason, row in zip(lines, reasons, rows.to_dict("records"), strict=True):
        name, value = _culprit(reason, row, contract)
        line.update(reason=reason, field=name, value=value)
    return pa.Table.from_pylist(lines, schema=QUARANTINE_SCHEMA)


def _culprit(reason: str, row: dict[Any, Any], contract: FamilyContract) -> tuple[str | None, str | None]:
    """The field at fault and its value."""
    if row["problem"]:
        return row["problem_field"] or None, row["problem_value"]
    rule = _RULE_OF.get(reason)
    if rule is None:  # the batch or a person refuses, not a field
        return None, None
    name = rule.columns[0]
    if reason == "empty_field":
        name = next(each for each in contract.required_fields if not row[each].strip())
    elif reason == "encoding_damage":
        fields = [each for each in rule.columns if each != "problem"]
        name = next((f for f in fields if replacement_characters(row[f]) or mojibake_runs(row[f])), name)
    elif name == "input" and not row["input"]:
        name = "instruction" if row["instruction"] else "input"
    return ("id" if name == "own_id" else name), shown(row[name])
