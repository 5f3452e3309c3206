"""The check `slices`: parts of a family, such as its Chinese rows, in which the candidate must not be shown to be worse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tasks.errors import ConfigError
from tasks.expression.expression import Expression
from tasks.gate.check import Check, GateInput
from tasks.gate.comparisons import mean_difference, shown_difference
from tasks.gate.pairing import PairedScores
from tasks.gate.settings import GateSettings, SliceCondition
from tasks.scoring.slices import parse_condition, shown_value, slices_by
from tasks.scoring.superiority import harm_p, holm


@dataclass(frozen=True)
class SliceRows:
    """The paired rows of a slice."""

    name: str
    """That of its check."""
    family: str
    where: str | None
    rows: PairedScores
    counts: bool
    """Whether it has enough rows to be tested."""


def check_slices(gate: GateInput) -> Iterator[Check]:
    """In no slice of a family is the candidate shown to be worse by more than the family's margin.

    Many slices are tested, so their p-values are adjusted (Holm): the probability that any slice of an equal model blocks is at
    most 1 - confidence. A slice of a column is one of its values in one family; a column with a single value has no slices. A
    condition has a slice in each family where a row fulfils it; without enough rows it is only reported.
    """
    by_condition = list(_by_condition(gate))
    slices = [*_by_column(gate), *by_condition]
    counted, level = [each for each in slices if each.counts], 1 - gate.settings.confidence
    p_values = [
        harm_p(
            each.rows.reference,
            each.rows.candidate,
            margin=gate.margin(each.family),
            level=level / len(counted),
            samples=gate.settings.bootstrap_samples,
            seed=gate.seed(each.name),
        )
        for each in counted
    ]
    for each, p in zip(counted, holm(p_values), strict=True):
        result = f"worse by more than {gate.margin(each.family):.3f}" if p <= level else "not shown to be worse"
        yield _result(gate, each, p > level, f"{result} (p {p:.2g}, adjusted for {len(counted)} slices)")
    for each in slices:
        if not each.counts:
            yield _result(gate, each, None, gate.too_few(len(each.rows)))
    yield from _empty(gate, {each.name.rpartition("/")[2] for each in by_condition})


def parse_slices(settings: GateSettings) -> dict[SliceCondition, Expression]:
    """The conditions of `gate.slices`, parsed.

    Raises:
        ConfigError: one is invalid.
    """
    parsed = {}
    for each in settings.slices:
        if isinstance(each, SliceCondition):
            try:
                parsed[each] = parse_condition(each.where)
            except ValueError as error:
                raise _invalid(each, str(error)) from error
    return parsed


def _invalid(condition: SliceCondition, what: str) -> ConfigError:
    fix = "Name columns of a row, not of an answer: docs/reports.md has the language"
    return ConfigError(f"{condition.where!r}: {what}", where=f"gate.slices, {condition.name}", fix=fix)


def _by_column(gate: GateInput) -> Iterator[SliceRows]:
    """Every slice of a column with enough rows."""
    established = gate.round_.champion.batches if gate.round_.champion else ()
    for family in sorted(gate.eligible):
        scores = gate.scores.of({family})
        for column in gate.settings.slices:
            if isinstance(column, str):
                for part in slices_by(column, scores.of_a_row(), established):
                    if int(part.rows.sum()) >= gate.settings.min_rows:
                        name = f"slices/{family}/{column}={shown_value(part.value)}"
                        yield SliceRows(name, family, part.where, scores.where(part.rows), True)


def _by_condition(gate: GateInput) -> Iterator[SliceRows]:
    """The slices of the conditions, in each family with such rows."""
    for condition, expression in parse_slices(gate.settings).items():
        for family in gate.families:
            scores = gate.scores.of({family})
            columns = {name: pa.array(scores.column(name).tolist(), pa.string()) for name in expression.columns}
            try:
                rows = scores.where(expression.holds(pa.table(columns)))
            except ConfigError as error:  # a pattern that exceeds its time limit
                raise _invalid(condition, error.what) from error
            if len(rows):
                counts = family in gate.eligible and len(rows) >= gate.settings.min_rows
                yield SliceRows(f"slices/{family}/{condition.name}", family, condition.where, rows, counts)


def _empty(gate: GateInput, names: set[str]) -> Iterator[Check]:
    """The conditions that no test row fulfils."""
    for each in gate.settings.slices:
        if isinstance(each, SliceCondition) and each.name not in names:
            detail = f"no test row fulfils `{each.where}`"
            yield Check(f"slices/{each.name}", None, None, None, 0.0 - gate.settings.margin, None, 0, detail)


def _result(gate: GateInput, part: SliceRows, passed: bool | None, result: str) -> Check:
    interval, difference = gate.difference(part.rows, part.name), mean_difference(part.rows)
    detail = f"{shown_difference(difference, interval)}, {result}"
    bound = 0.0 - gate.margin(part.family)
    rows = len(part.rows)
    return Check(part.name, part.family, passed, difference, bound, interval, rows, detail, where=part.where)
