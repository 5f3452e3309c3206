"""The verdict on a batch: which rows are accepted, which refused and why, and whether the batch is set aside whole. Pure.

`find` looks at a chunk of records and forgets their text; `decide` folds what was found in all chunks into a verdict. So a
batch of any size is judged in the memory of a chunk, and chunks may be looked at in several processes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.records.raw_batch import ERASED
from tasks.records.row import VERDICT_SCHEMA
from tasks.runtime.files import content_digest
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.measures.measure import Mask, column, is_first, truths
from tasks.validate.rules.rules import Rule, rules_of

SET_ASIDE = "batch_set_aside"
TOO_FEW = "too_few_rows"
DROPPED = "dropped_by_decision"
LONGEST_KEPT_ID = 40


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
    """The share that breaks a rule and is not released; rows dropped or erased by decision do not count."""
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
class Findings:
    """What the rules found in some records of a batch, without their text."""

    row_ids: pa.Array
    problems: pa.Array
    """Why a record is no row; "" for a row."""
    broken: NDArray[np.bool_]
    """Rules × records: does the record break the rule? Rules of the batch as a whole are not asked yet."""
    own_ids: pa.Array
    """The source's own ids, long ones as digests; null where there is none, and for a record that is no row."""


@dataclass(frozen=True)
class Verdict:
    reasons: list[str]
    """Of each record; "" for an accepted one."""
    found: Findings
    facts: Facts

    @property
    def accepted(self) -> pa.Table:
        """The accepted records (VERDICT_SCHEMA)."""
        places = pa.array([place for place, reason in enumerate(self.reasons) if not reason], pa.int64())
        return pa.table([places, self.found.row_ids.take(places)], schema=VERDICT_SCHEMA)


def find(table: pa.Table, contract: FamilyContract) -> Findings:
    """Asks every rule of the contract of some records (RECORD_SCHEMA)."""
    texts = {name: column(table, name) for name in table.schema.names if table.schema.field(name).type == pa.string()}
    table = pa.table(texts | {"own_id": table["own_id"]})  # each column in one piece, and filled up, once for all rules
    rules = rules_of(contract)
    broken = np.zeros((len(rules), table.num_rows), dtype=np.bool_)
    for place, rule in enumerate(rules):
        if not rule.is_of_batch:
            broken[place] = ~rule.is_good(table, contract)
    problems = column(table, "problem")
    ids = [
        None if own is None or problem else own if len(own) <= LONGEST_KEPT_ID else content_digest(own)
        for own, problem in zip(table["own_id"].to_pylist(), problems.to_pylist(), strict=True)
    ]
    return Findings(column(table, "row_id"), problems, broken, pa.array(ids, pa.string()))


def fold(found: list[Findings], contract: FamilyContract) -> Findings:
    """What was found in all chunks of a batch, in order, with the rules that look at it as a whole."""
    whole = Findings(
        pa.concat_arrays([each.row_ids for each in found]),
        pa.concat_arrays([each.problems for each in found]),
        np.concatenate([each.broken for each in found], axis=1),
        pa.concat_arrays([each.own_ids for each in found]),
    )
    for place, rule in enumerate(rules_of(contract)):
        if rule.is_of_batch:  # the only one there is: an own id that stands twice
            whole.broken[place] = ~is_first(whole.own_ids)
    return whole


def decide(
    found: Findings,
    contract: FamilyContract,
    max_refused_share: float,
    released: frozenset[str] = frozenset(),
    dropped: frozenset[str] = frozenset(),
    batch: str = "",
    source: str = "",
) -> Verdict:
    """Judges a batch by what was found in it.

    Args:
        max_refused_share: the bound; a batch over it is set aside whole.
        released: ids of rows that people accept although they break a rule. A record that is no row stays refused.
        dropped: ids of rows that people refuse.
    """
    rules = rules_of(contract)
    rows = len(found.row_ids)
    first = _first_broken(found, rules)
    is_broken = first != ""
    is_erased = truths(pc.equal(found.problems, ERASED))
    is_dropped = _is_in(found.row_ids, dropped) | is_erased
    is_released = _is_in(found.row_ids, released) & ~is_dropped & truths(pc.equal(found.problems, ""))
    is_refused = is_broken & ~is_released & ~is_dropped
    judged_rows = int((~is_dropped).sum())
    share = float(is_refused.sum()) / judged_rows if judged_rows else 0.0
    is_too_small = rows < contract.min_batch_rows
    is_set_aside = share > max_refused_share or is_too_small
    counts = Counter(first[is_refused].tolist())
    if is_too_small:
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
        broken={rule.code: int(found.broken[place].sum()) for place, rule in enumerate(rules)},
    )
    return Verdict(final.tolist(), found, facts)


def _first_broken(found: Findings, rules: list[Rule]) -> NDArray[np.object_]:
    """For each record the first rule that it breaks, or the problem that keeps it from being a row; "" for none."""
    codes = np.array([*(rule.code for rule in rules), ""], dtype=object)
    place = np.where(found.broken.any(axis=0), found.broken.argmax(axis=0), len(rules))
    problems = np.array(found.problems.to_pylist(), dtype=object)
    return np.where(problems != "", problems, codes[place])


def _is_in(row_ids: pa.Array, chosen: frozenset[str]) -> Mask:
    return truths(pc.is_in(row_ids, pa.array(sorted(chosen), pa.string())))
