"""The rules for rows: one vectorised predicate each. Row verdicts and Great Expectations both call it, so that they agree.

A row's reason is the first rule, in this order, that it breaks. A contract's custom rules come after the built-in ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tasks.records.raw_batch import ERASED
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.contract.custom_rules import CustomRule
from tasks.validate.rules import predicates
from tasks.validate.rules.predicates import Predicate, of_rows


@dataclass(frozen=True)
class Rule:
    code: str
    """The reason code of a row that breaks it. Stable: users and dashboards rely on it."""
    sentence: str
    """The rule as a sentence for Data Docs; `{bounds}` of the contract are filled in."""
    columns: tuple[str, ...]
    """The columns that the predicate reads; the first is the field at fault."""
    is_good: Predicate
    """Records × contract → (records,) does it keep the rule? A record that was not parsed keeps every rule for rows."""
    applies: Callable[[FamilyContract], bool] = lambda contract: True
    is_of_batch: bool = False
    """Is it a rule over the whole batch? It is evaluated when the chunks are merged."""


def _problem(code: str, sentence: str) -> Rule:
    return Rule(code, sentence, ("problem",), partial(predicates.has_no_problem, code=code))


_PROBLEMS = (
    _problem("not_parsed", "The record can be read"),
    _problem("not_an_object", "The record is an object with fields"),
    _problem("missing_field", "Every field that the shape needs is there"),
    _problem("wrong_type", "Every field is of the right type"),
    _problem("unknown_role", "Every role is one that we know"),
    _problem("role_order", "User and assistant take turns, from the user's first to the assistant's last"),
)
PROBLEMS_WITH_RULES = (*(rule.code for rule in _PROBLEMS), "encoding_damage")
"""Problem codes that are rules of their own."""
OTHER_PROBLEM = "no_row"
"""The rule that all other problems break; the reason is the problem's code."""

_INPUT = ("input", "instruction", "problem")
_OUTPUT = ("output", "problem")
_WHOLE = (*predicates.WITH_TEXT, "problem")


def _length(code: str, bound: str) -> Rule:
    """A bound of a length, which applies only where the contract sets it."""
    end, part, unit = bound.split("_")
    has = "Instruction and input together have" if part == "input" else "The output has"
    sentence = f"{has} at {'least' if end == 'min' else 'most'} {{{bound}}} {unit}"
    columns, is_good = _INPUT if part == "input" else _OUTPUT, of_rows(partial(predicates.is_within, bound=bound))
    return Rule(code, sentence, columns, is_good, _sets(bound))


def _sets(name: str) -> Callable[[FamilyContract], bool]:
    """Does the contract set this optional rule?"""
    return lambda contract: getattr(contract, name) is not None


RULES: tuple[Rule, ...] = (
    *_PROBLEMS,
    Rule(
        OTHER_PROBLEM,
        "The record is a row",
        ("problem",),
        partial(predicates.has_no_problem_but, known=(*PROBLEMS_WITH_RULES, ERASED)),
    ),
    Rule("empty_output", "The output is not empty", _OUTPUT, of_rows(predicates.has_output)),
    Rule(
        "encoding_damage",
        "At most {max_replacement_characters} characters are lost (U+FFFD), at most {max_mojibake_runs} runs misread",
        _WHOLE,
        predicates.is_undamaged_record,
    ),
    Rule(
        "empty_field",
        "Not blank: {required_fields}",
        ("input", "instruction", "system", "history", "tools", "rejected", "problem"),
        of_rows(predicates.has_fields),
        lambda contract: bool(contract.required_fields),
    ),
    _length("input_too_short", "min_input_segments"),
    _length("input_too_long", "max_input_segments"),
    _length("output_too_short", "min_output_segments"),
    _length("output_too_long", "max_output_segments"),
    _length("input_few_characters", "min_input_characters"),
    _length("input_many_characters", "max_input_characters"),
    _length("output_few_characters", "min_output_characters"),
    _length("output_many_characters", "max_output_characters"),
    Rule(
        "language_not_allowed",
        "The row's language is one of {languages}",
        ("language", "problem"),
        of_rows(predicates.is_language_known),
        _sets("languages"),
    ),
    Rule(
        "language_script",
        "The input or the output is in the script of the row's language: {scripts}",
        ("input", "instruction", "output", "language", "problem"),
        of_rows(predicates.is_in_script),
        lambda contract: bool(contract.scripts),
    ),
    Rule(
        "label_too_long",
        "A label has at most {max_label_characters} characters",
        _OUTPUT,
        of_rows(predicates.is_label_short),
        _sets("max_label_characters"),
    ),
    Rule(
        "label_not_allowed",
        "The label is one of {labels}",
        _OUTPUT,
        of_rows(predicates.is_label_known),
        _sets("labels"),
    ),
)
UNIQUE_ID = Rule(
    "duplicate_id",
    "The source's own id is unique within the batch",
    ("own_id", "problem"),
    of_rows(predicates.is_id_unique),
    lambda contract: contract.unique_id,
    is_of_batch=True,
)
CODES = frozenset(rule.code for rule in (*RULES, UNIQUE_ID))
"""Reason codes that may not be names of custom rules."""


def rules_of(contract: FamilyContract) -> list[Rule]:
    """The rules that the contract sets, custom ones included; the rule over the whole batch comes last."""
    custom = [_custom(rule) for rule in contract.rules]
    return [rule for rule in (*RULES, *custom, UNIQUE_ID) if rule.applies(contract)]


def _custom(rule: CustomRule) -> Rule:
    columns = tuple(dict.fromkeys((*rule.columns, "problem")))
    return Rule(
        rule.name,
        rule.sentence.replace("{", "{{").replace("}", "}}"),
        columns,
        of_rows(lambda rows, _: rule.is_good(rows)),
    )


def sentence_of(rule: Rule, contract: FamilyContract) -> str:
    """The rule as a sentence, with its bounds filled in."""
    bounds: dict[str, Any] = {}
    for name in FamilyContract.model_fields:
        value = getattr(contract, name)
        if isinstance(value, tuple):
            value = ", ".join(map(str, value))
        bounds[name] = value
    scripts = [
        f"{language} {script.script} (at least {script.min_share:.0%})" for language, script in contract.scripts.items()
    ]
    return rule.sentence.format(**bounds | {"scripts": ", ".join(scripts)})
