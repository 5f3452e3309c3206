"""The predicates of the rules: records (RECORD_SCHEMA) × the family's contract → (records,) does each keep the rule? Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.expression.measure import (
    Counts,
    Mask,
    characters_of,
    column,
    fill_in,
    has_at_least,
    has_at_most,
    has_text,
    is_first,
    truths,
)
from tasks.validate.contract.contract import FamilyContract, Script
from tasks.validate.measures.mojibake import mojibake_runs, pattern_of_damage, replacement_characters
from tasks.validate.measures.script import is_surely_in, letters_in

WITH_TEXT = ("output", "rejected", "input", "instruction", "history", "system", "tools", "thoughts")
"""The fields that are checked for damaged text; the first damaged one is reported."""

Predicate = Callable[[pa.Table, FamilyContract], Mask]


def prompt_of(table: pa.Table) -> pa.Array:
    """Instruction and input, joined as in the prompt."""
    return pc.binary_join_element_wise(column(table, "instruction"), column(table, "input"), "\n")


def has_no_problem(table: pa.Table, contract: FamilyContract, *, code: str) -> Mask:
    return truths(pc.not_equal(column(table, "problem"), code))


def has_no_problem_but(table: pa.Table, contract: FamilyContract, *, known: tuple[str, ...]) -> Mask:
    """Has the record no problem, or one that is a rule of its own?"""
    return truths(pc.is_in(column(table, "problem"), pa.array(["", *known])))


def of_rows(measure: Predicate) -> Predicate:
    """The predicate on records that became rows; the others break a rule of their own already."""

    def is_good(table: pa.Table, contract: FamilyContract) -> Mask:
        is_row = truths(pc.equal(column(table, "problem"), ""))
        if is_row.all():
            return measure(table, contract)
        good = np.ones(len(is_row), dtype=np.bool_)
        good[is_row] = measure(table.filter(pa.array(is_row)), contract)
        return good

    return is_good


def has_output(rows: pa.Table, contract: FamilyContract) -> Mask:
    return has_text(column(rows, "output"))


def has_fields(rows: pa.Table, contract: FamilyContract) -> Mask:
    good = np.ones(rows.num_rows, dtype=np.bool_)
    for name in contract.required_fields:
        good &= has_text(column(rows, name))
    return good


def is_undamaged(rows: pa.Table, contract: FamilyContract) -> Mask:
    texts = [column(rows, name) for name in WITH_TEXT]
    may_be_damaged = np.zeros(rows.num_rows, dtype=np.bool_)
    for field in texts:
        if not truths(pc.string_is_ascii(field)).all():
            may_be_damaged |= truths(pc.match_substring_regex(field, pattern_of_damage()))

    def is_whole(text: str) -> bool:
        return (
            replacement_characters(text) <= contract.max_replacement_characters
            and mojibake_runs(text) <= contract.max_mojibake_runs
        )

    good = ~may_be_damaged
    if may_be_damaged.any():
        fill_in(good, may_be_damaged, pc.binary_join_element_wise(*texts, "\n"), is_whole)
    return good


def is_undamaged_record(table: pa.Table, contract: FamilyContract) -> Mask:
    """Is the record undamaged, both as a row and where it could not be parsed?"""
    is_sound = has_no_problem(table, contract, code="encoding_damage")
    return is_sound & of_rows(is_undamaged)(table, contract)


def is_within(rows: pa.Table, contract: FamilyContract, *, bound: str) -> Mask:
    """Does the part of the row keep a bound of its length, such as `min_input_segments` or `max_output_characters`?"""
    end, part, unit = bound.split("_")
    texts, limit = prompt_of(rows) if part == "input" else column(rows, "output"), getattr(contract, bound)
    if unit == "segments":
        return has_at_least(texts, limit) if end == "min" else has_at_most(texts, limit)
    lengths = trimmed_length(texts)
    return lengths >= limit if end == "min" else lengths <= limit  # type: ignore[no-any-return]


def trimmed_length(texts: pa.Array) -> Counts:
    """Characters of each text, without surrounding white space."""
    return characters_of(pc.utf8_trim_whitespace(texts))


def is_in_script(rows: pa.Table, contract: FamilyContract) -> Mask:
    language = column(rows, "language")
    prompts, outputs = prompt_of(rows), column(rows, "output")
    good = np.ones(rows.num_rows, dtype=np.bool_)
    for code, script in contract.scripts.items():
        judged = truths(pc.equal(language, code))
        if judged.any():
            chosen = pa.array(judged)
            good[judged] = _are_in(prompts.filter(chosen), outputs.filter(chosen), script, contract)
    return good


def _are_in(prompts: pa.Array, outputs: pa.Array, script: Script, contract: FamilyContract) -> Mask:
    """Is the prompt or the output in the script, or has the row too few letters to decide?"""
    good = is_surely_in(outputs, script.script, script.min_share)
    for row in np.flatnonzero(~good):
        counts = [letters_in(texts[row].as_py(), script.script) for texts in (prompts, outputs)]
        is_short = sum(letters for letters, _ in counts) < contract.min_letters_for_script
        good[row] = is_short or any(n and inside >= script.min_share * n for n, inside in counts)
    return good


def is_language_known(rows: pa.Table, contract: FamilyContract) -> Mask:
    return truths(pc.is_in(column(rows, "language"), pa.array(contract.languages or (), pa.string())))


def is_label_short(rows: pa.Table, contract: FamilyContract) -> Mask:
    most = contract.max_label_characters or 0
    return trimmed_length(column(rows, "output")) <= most


def is_label_known(rows: pa.Table, contract: FamilyContract) -> Mask:
    labels = pc.utf8_trim_whitespace(column(rows, "output"))
    return truths(pc.is_in(labels, pa.array(contract.labels or (), pa.string())))


def is_id_unique(rows: pa.Table, contract: FamilyContract) -> Mask:
    ids = rows.column("own_id")
    return is_first(ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids)
