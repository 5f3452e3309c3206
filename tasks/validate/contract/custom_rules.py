"""A custom rule of a contract: a regular expression on a field, or an expression over the columns."""

from __future__ import annotations

from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AliasChoices, Field, field_validator, model_validator

from tasks.expression.expression import parse_expression
from tasks.expression.measure import Mask, column
from tasks.expression.pattern import Pattern
from tasks.runtime.base_settings import Settings


class CustomRule(Settings):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
    """The reason code of a row that breaks it: lower-case letters, digits and underscores."""
    field: Literal["system", "history", "instruction", "input", "output", "tools", "rejected"] | None = None
    """The field that the pattern is matched against."""
    must_match: str | None = None
    """A regular expression that a valid field contains; `^` and `$` anchor it to the whole field."""
    must_not_match: str | None = None
    """A regular expression that a valid field does not contain."""
    expression: str | None = None
    """A condition that a valid row fulfils, such as `length(output) <= 3 * length(input)`."""
    description: Annotated[str, Field(validation_alias=AliasChoices("description", "said"))] = ""
    """The rule as a sentence, shown in Data Docs. `said` is its former name."""

    @model_validator(mode="after")
    def has_one_condition(self) -> CustomRule:
        conditions = (self.must_match, self.must_not_match, self.expression)
        if sum(condition is not None for condition in conditions) != 1:
            raise ValueError("it needs one of must_match, must_not_match and expression")
        if (self.field is None) != (self.expression is not None):
            raise ValueError("an expression names its columns itself" if self.field else "it needs a field to match")
        return self

    @field_validator("must_match", "must_not_match")
    @classmethod
    def is_a_pattern(cls, text: str | None) -> str | None:
        if text is not None:
            Pattern.compile(text)
        return text

    @field_validator("expression")
    @classmethod
    def is_an_expression(cls, text: str | None) -> str | None:
        if text is not None:
            parse_expression(text)
        return text

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads; the first is the field at fault."""
        return parse_expression(self.expression).columns if self.expression is not None else (self.field or "output",)

    @property
    def sentence(self) -> str:
        if self.description:
            return self.description
        if self.expression is not None:
            return self.expression
        does = f"matches {self.must_match}" if self.must_match is not None else f"does not match {self.must_not_match}"
        return f"The {self.field} {does}"

    def is_good(self, rows: pa.Table) -> Mask:
        """The rule's predicate (rules.py)."""
        if self.expression is not None:
            return parse_expression(self.expression).holds(rows)
        pattern = Pattern.compile(self.must_match or self.must_not_match or "")
        matches = pattern.matches(column(rows, self.field or "output"))
        return matches if self.must_match is not None else ~matches
