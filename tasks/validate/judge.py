"""The verdict on a batch: which rows are accepted, which refused and why, and whether the batch is set aside whole. Pure.

`check_rules` evaluates the rules on a chunk of records and keeps no text; `merge_chunks` joins the results of all chunks, and
`decide` makes the verdict. So a batch of any size is judged in the memory of a chunk, and several processes may check chunks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.expression.measure import Mask, column, is_first, truths
from tasks.records.raw_batch import ERASED
from tasks.records.row import VERDICT_SCHEMA
from tasks.runtime.files import content_digest
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.rules.rules import Rule, rules_of

SET_ASIDE = "batch_set_aside"
TOO_FEW = "too_few_rows"
DROPPED = "dropped_by_decision"
LONGEST_KEPT_ID = 40


def ranked(reasons: dict[str, int]) -> list[tuple[str, int]]:
    """Reasons, the most frequent first."""
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


@dataclass(frozen=True)
class Facts:
    """The outcome of a batch, in numbers."""

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
    """The share that breaks a rule and is not released; rows dropped or erased by decision do not count."""
    reasons: dict[str, int]
    """Rule → rows whose first broken rule it is."""
    broken: dict[str, int] = field(default_factory=dict)
    """Rule → rows that break it, whether or not it is their first one: the counts that Data Docs must show."""

    @property
    def top_reasons(self) -> list[list[Any]]:
        """The three most frequent reasons."""
        return [[reason, count] for reason, count in ranked(self.reasons)[:3]]


@dataclass(frozen=True)
class RuleResults:
    """The rules evaluated on some records of a batch, without their text."""

    row_ids: pa.Array
    problems: pa.Array
    """The code of the problem that kept a record from being parsed into a row; "" for a row."""
    broken: NDArray[np.bool_]
    """(rules, records): does the record break the rule? Rules over the whole batch are evaluated by `merge_chunks`."""
    source_ids: pa.Array
    """The source's ids, long ones as digests; null where there is none, and for a record that is not a row."""


@dataclass(frozen=True)
class Verdict:
    reasons: list[str]
    """(records,) the reason code; "" for an accepted one."""
    results: RuleResults
    facts: Facts

    @property
    def accepted(self) -> pa.Table:
        """The accepted records (VERDICT_SCHEMA)."""
        indices = pa.array([index for index, reason in enumerate(self.reasons) if not reason], pa.int64())
        return pa.table([indices, self.results.row_ids.take(indices)], schema=VERDICT_SCHEMA)


def check_rules(table: pa.Table, contract: FamilyContract) -> RuleResults:
    """Evaluates every rule of the contract on some records (RECORD_SCHEMA)."""
    texts = {name: column(table, name) for name in table.schema.names if table.schema.field(name).type == pa.string()}
    table = pa.table(texts | {"own_id": table["own_id"]})  # once for all rules: one chunk a column, no nulls
    rules = rules_of(contract)
    broken = np.zeros((len(rules), table.num_rows), dtype=np.bool_)
    for rule_index, rule in enumerate(rules):
        if not rule.is_of_batch:
            broken[rule_index] = ~rule.is_good(table, contract)
    problems = column(table, "problem")
    source_ids = [
        None
        if source_id is None or problem
        else source_id
        if len(source_id) <= LONGEST_KEPT_ID
        else content_digest(source_id)
        for source_id, problem in zip(table["own_id"].to_pylist(), problems.to_pylist(), strict=True)
    ]
    return RuleResults(column(table, "row_id"), problems, broken, pa.array(source_ids, pa.string()))


def merge_chunks(chunks: list[RuleResults], contract: FamilyContract) -> RuleResults:
    """The results of all chunks of a batch, in order, with the rules over the whole batch."""
    whole = RuleResults(
        pa.concat_arrays([chunk.row_ids for chunk in chunks]),
        pa.concat_arrays([chunk.problems for chunk in chunks]),
        np.concatenate([chunk.broken for chunk in chunks], axis=1),
        pa.concat_arrays([chunk.source_ids for chunk in chunks]),
    )
    for rule_index, rule in enumerate(rules_of(contract)):
        if rule.is_of_batch:  # the only one there is: a source id that occurs twice
            whole.broken[rule_index] = ~is_first(whole.source_ids)
    return whole


def decide(
    results: RuleResults,
    contract: FamilyContract,
    max_refused_share: float,
    released: frozenset[str] = frozenset(),
    dropped: frozenset[str] = frozenset(),
    batch: str = "",
    source: str = "",
) -> Verdict:
    """Judges a batch by the results of its rules.

    Args:
        max_refused_share: a batch over this bound is set aside whole.
        released: ids of rows that a person accepts although they break a rule. A record that is not a row stays refused.
        dropped: ids of rows that a person refuses.
    """
    rules = rules_of(contract)
    rows = len(results.row_ids)
    first = _first_broken(results, rules)
    is_broken = first != ""
    is_erased = truths(pc.equal(results.problems, ERASED))
    is_dropped = _is_in(results.row_ids, dropped) | is_erased
    is_released = _is_in(results.row_ids, released) & ~is_dropped & truths(pc.equal(results.problems, ""))
    is_refused = is_broken & ~is_released & ~is_dropped
    judged_rows = int((~is_dropped).sum())
    share = float(is_refused.sum()) / judged_rows if judged_rows else 0.0
    has_too_few_rows = rows < contract.min_batch_rows
    is_set_aside = share > max_refused_share or has_too_few_rows
    counts = Counter(first[is_refused].tolist())
    if has_too_few_rows:
        counts[TOO_FEW] = rows

    final = np.where(is_released, "", first)
    if is_set_aside:  # a row that a person released by name is still accepted
        final = np.where((final == "") & ~is_released, SET_ASIDE, final)
    final = np.where(is_erased, ERASED, np.where(is_dropped, DROPPED, final))
    accepted = int((final == "").sum())
    facts = Facts(
        batch=batch,
        source=source,
        rows=rows,
        accepted=accepted,
        refused=rows - accepted,
        released=int((is_released & (is_broken | is_set_aside)).sum()),
        state="set_aside" if is_set_aside else "accepted",
        refused_share=round(share, 6),
        reasons=dict(sorted(counts.items())),
        broken={rule.code: int(results.broken[rule_index].sum()) for rule_index, rule in enumerate(rules)},
    )
    return Verdict(final.tolist(), results, facts)


def _first_broken(results: RuleResults, rules: list[Rule]) -> NDArray[np.object_]:
    """(records,) the first rule that each breaks, or its parse problem; "" for none."""
    codes = np.array([*(rule.code for rule in rules), ""], dtype=object)
    first = np.where(results.broken.any(axis=0), results.broken.argmax(axis=0), len(rules))
    problems = np.array(results.problems.to_pylist(), dtype=object)
    return np.where(problems != "", problems, codes[first])


def _is_in(row_ids: pa.Array, chosen: frozenset[str]) -> Mask:
    return truths(pc.is_in(row_ids, pa.array(sorted(chosen), pa.string())))
