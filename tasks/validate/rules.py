"""The rules of a row: one vectorised predicate each. Row verdicts and Great Expectations both call it, so that they agree.

A row's reason is the first rule, in this order, that it breaks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from tasks.text import segment
from tasks.validate.contract import FamilyContract
from tasks.validate.damage import mojibake_runs, replacement_characters
from tasks.validate.script import is_wholly_in, letters_in

Predicate = Callable[[pd.DataFrame, FamilyContract], "pd.Series[bool]"]


@dataclass(frozen=True)
class Rule:
    code: str
    """The reason of a row that breaks it. Stable: people and dashboards count on it."""
    said: str
    """What a good row is like, as a sentence for Data Docs; `{bounds}` of the contract are filled in."""
    columns: tuple[str, ...]
    """What the predicate looks at; the first is the field at fault."""
    is_good: Predicate
    """Frame × contract → for each row, does it keep the rule? A row that is broken in an earlier way keeps it."""
    applies: Callable[[FamilyContract], bool] = lambda contract: True


def prompt_of(frame: pd.DataFrame) -> pd.Series[Any]:
    """Instruction and input together, as the model is shown them."""
    return (frame["instruction"] + "\n" + frame["input"]).str.strip()


def length_segments(text: str) -> int:
    """Segments of the text; one at least, where there is any."""
    return len(segment(text)) or int(bool(text.strip()))


def most_segments(text: str) -> int:
    """A bound on the text's segments that is cheap to tell, so that few texts need be counted."""
    return (len(text) + 1) // 2 if text.isascii() else max(len(unicodedata.normalize("NFKC", text)), 1)


def _map(texts: pd.Series[Any], measure: Callable[[str], Any]) -> pd.Series[Any]:
    return pd.Series([measure(text) for text in texts], index=texts.index)


def _has_no_problem(frame: pd.DataFrame, contract: FamilyContract, *, code: str) -> pd.Series[bool]:
    return frame["problem"] != code


def _of_rows(measure: Predicate) -> Predicate:
    """The predicate on records that became rows; the others were told of already."""

    def is_good(frame: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
        good = pd.Series(True, index=frame.index)
        rows = frame[frame["problem"] == ""]
        if len(rows):
            good.loc[rows.index] = measure(rows, contract).astype(bool)
        return good

    return is_good


def _has_output(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    return _map(rows["output"], lambda text: bool(text.strip()))


def _has_fields(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    good = pd.Series(True, index=rows.index)
    for name in contract.required_fields:
        good &= _map(rows[name], lambda text: bool(text.strip()))
    return good


def _is_undamaged(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    whole = (
        rows["system"]
        + "\n"
        + rows["history"]
        + "\n"
        + rows["instruction"]
        + "\n"
        + rows["input"]
        + "\n"
        + rows["output"]
    )

    def is_whole(text: str) -> bool:
        return (
            replacement_characters(text) <= contract.max_replacement_characters
            and mojibake_runs(text) <= contract.max_mojibake_runs
        )

    return _map(whole, is_whole)


def _is_long_enough(rows: pd.DataFrame, contract: FamilyContract, *, part: str) -> pd.Series[bool]:
    least = getattr(contract, f"min_{part}_segments")
    return _map(_part(rows, part), lambda text: least == 0 or (bool(text.strip()) and length_segments(text) >= least))


def _is_short_enough(rows: pd.DataFrame, contract: FamilyContract, *, part: str) -> pd.Series[bool]:
    most = getattr(contract, f"max_{part}_segments")
    return _map(_part(rows, part), lambda text: most_segments(text) <= most or length_segments(text) <= most)


def _part(rows: pd.DataFrame, part: str) -> pd.Series[Any]:
    return prompt_of(rows) if part == "input" else rows["output"]


def _is_in_script(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    def is_in_script(language: str, prompt: str, output: str) -> bool:
        script = contract.scripts.get(language)  # type: ignore[call-overload]
        if script is None:
            return True
        if any(is_wholly_in(text, script.script) for text in (prompt, output)):
            return True
        there = [letters_in(text, script.script) for text in (prompt, output)]
        if sum(letters for letters, _ in there) < contract.min_letters_for_script:
            return True
        return any(letters and inside >= script.min_share * letters for letters, inside in there)

    triples = zip(rows["language"], prompt_of(rows), rows["output"], strict=True)
    return pd.Series([is_in_script(*triple) for triple in triples], index=rows.index)


def _is_label_short(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    most = contract.max_label_characters
    return _map(rows["output"], lambda text: most is None or len(text.strip()) <= most)


def _is_label_known(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    known = contract.labels
    return _map(rows["output"], lambda text: known is None or text.strip() in known)


def _is_id_unique(rows: pd.DataFrame, contract: FamilyContract) -> pd.Series[bool]:
    return rows["own_id"].isna() | ~rows["own_id"].duplicated(keep="first")


def _problem(code: str, said: str) -> Rule:
    return Rule(code, said, ("problem",), partial(_has_no_problem, code=code))


_WHOLE = ("output", "input", "instruction", "history", "system", "problem")

RULES: tuple[Rule, ...] = (
    _problem("not_parsed", "The record can be read"),
    _problem("not_an_object", "The record is an object with fields"),
    _problem("missing_field", "Every field that the shape needs is there"),
    _problem("wrong_type", "Every field is text"),
    _problem("unknown_role", "Every role is system, user or assistant"),
    _problem("role_order", "User and assistant take turns, from the user's first to the assistant's last"),
    Rule("empty_output", "The output is not empty", ("output", "problem"), _of_rows(_has_output)),
    Rule(
        "encoding_damage",
        "At most {max_replacement_characters} characters are lost (U+FFFD), at most {max_mojibake_runs} runs misread",
        _WHOLE,
        lambda frame, contract: (
            _has_no_problem(frame, contract, code="encoding_damage") & _of_rows(_is_undamaged)(frame, contract)
        ),
    ),
    Rule(
        "empty_field",
        "Not blank: {required_fields}",
        ("input", "instruction", "system", "problem"),
        _of_rows(_has_fields),
        lambda contract: bool(contract.required_fields),
    ),
    Rule(
        "input_too_short",
        "Instruction and input together have at least {min_input_segments} segments",
        ("input", "instruction", "problem"),
        _of_rows(partial(_is_long_enough, part="input")),
    ),
    Rule(
        "input_too_long",
        "Instruction and input together have at most {max_input_segments} segments",
        ("input", "instruction", "problem"),
        _of_rows(partial(_is_short_enough, part="input")),
    ),
    Rule(
        "output_too_short",
        "The output has at least {min_output_segments} segments",
        ("output", "problem"),
        _of_rows(partial(_is_long_enough, part="output")),
    ),
    Rule(
        "output_too_long",
        "The output has at most {max_output_segments} segments",
        ("output", "problem"),
        _of_rows(partial(_is_short_enough, part="output")),
    ),
    Rule(
        "language_script",
        "The input or the output is in the script of the row's language: {scripts}",
        ("input", "instruction", "output", "language", "problem"),
        _of_rows(_is_in_script),
        lambda contract: bool(contract.scripts),
    ),
    Rule(
        "label_too_long",
        "A label has at most {max_label_characters} characters",
        ("output", "problem"),
        _of_rows(_is_label_short),
        lambda contract: contract.max_label_characters is not None,
    ),
    Rule(
        "label_not_allowed",
        "The label is one of {labels}",
        ("output", "problem"),
        _of_rows(_is_label_known),
        lambda contract: contract.labels is not None,
    ),
    Rule(
        "duplicate_id",
        "The source's own id is unique within the batch",
        ("own_id", "problem"),
        _of_rows(_is_id_unique),
        lambda contract: contract.unique_id,
    ),
)


def rules_of(contract: FamilyContract) -> list[Rule]:
    """The rules that the contract asks for."""
    return [rule for rule in RULES if rule.applies(contract)]


def sentence_of(rule: Rule, contract: FamilyContract) -> str:
    """The rule as a person reads it, with its bounds."""
    bounds: dict[str, Any] = {}
    for name in FamilyContract.model_fields:
        value = getattr(contract, name)
        if isinstance(value, tuple):
            value = ", ".join(value)
        bounds[name] = value
    scripts = [
        f"{language} {each.script} (at least {each.min_share:.0%})" for language, each in contract.scripts.items()
    ]
    return rule.said.format(**bounds | {"scripts": ", ".join(scripts)})
