"""data/reports/validate.json, and the same report as lines for the terminal. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tasks.runtime.plurals import count_of
from tasks.state.manifest import Batch
from tasks.validate.judge import TOO_FEW, Facts, ranked

Outcome = tuple[Batch, Facts | None]
"""A batch and its facts; None where a person excluded it."""
SET_ASIDE = ("batch", "source", "rows", "refused_share", "top_reasons")
"""The facts about a batch that was set aside."""


def make_report(outcomes: list[Outcome]) -> dict[str, Any]:
    """The report; batches are in order of arrival."""
    judged = [facts for _, facts in outcomes if facts]
    reasons: Counter[str] = Counter()
    for facts in judged:
        reasons.update(facts.reasons)
    return {
        "rows": sum(batch.rows for batch, _ in outcomes),
        "accepted": sum(facts.accepted for facts in judged),
        "refused": sum(facts.refused for facts in judged),
        "released": sum(facts.released for facts in judged),
        "reasons": dict(sorted(reasons.items())),
        "set_aside": [
            {name: getattr(facts, name) for name in SET_ASIDE} for facts in judged if facts.state == "set_aside"
        ],
        "excluded": [batch.batch for batch, facts in outcomes if facts is None],
        "batches": [_batch_entry(*outcome) for outcome in outcomes],
    }


def _batch_entry(batch: Batch, facts: Facts | None) -> dict[str, Any]:
    return {
        "batch": batch.batch,
        "source": batch.source,
        "rows": batch.rows,
        "accepted": facts.accepted if facts else 0,
        "refused": facts.refused if facts else 0,
        "state": facts.state if facts else "excluded",
    }


def report_lines(report: dict[str, Any], max_refused_share: float) -> list[str]:
    """The report as lines: the totals, then a warning for each batch that was set aside."""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in ranked(report["reasons"]))
    released = f", {report['released']:,} released" if report["released"] else ""
    excluded = f", {count_of(len(report['excluded']), 'batch', 'batches')} excluded" if report["excluded"] else ""
    lines = [
        f"validate: {report['rows']:,} rows, {report['accepted']:,} accepted, {report['refused']:,} refused{released}{excluded}"
        + (f" ({reasons})" if reasons else "")
    ]
    for batch in report["set_aside"]:
        top = ", ".join(f"{reason} {count:,}" for reason, count in batch["top_reasons"])
        lines.append(
            f"validate: BATCH SET ASIDE: {batch['batch']} of source {batch['source']}: {_why(batch, max_refused_share)}."
            f" Most frequent: {top}. List them: strop quarantine list"
        )
    return lines


def _why(batch: dict[str, Any], max_refused_share: float) -> str:
    rows = count_of(batch["rows"], "row")
    why = []
    if TOO_FEW in dict(batch["top_reasons"]):  # its count is that of all rows, so it is always among the top
        why.append(f"it has {rows}, fewer than `min_batch_rows` of the contract")
    if batch["refused_share"] > max_refused_share:
        share, bound = f"{batch['refused_share']:.1%}", f"{max_refused_share:.1%}"
        why.append(f"{share} of its {rows} are refused, and the bound is {bound}")
    return "; ".join(why)
