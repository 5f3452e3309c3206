"""The rules for the rows of each family. load_contract.py reads them from files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings
from tasks.validate.contract.custom_rules import CustomRule

Count = Annotated[int, Field(ge=0)]


class Script(Settings):
    script: Literal["Latin", "Han", "Cyrillic", "Arabic", "Greek", "Hangul", "Hiragana", "Katakana"]
    """A Unicode script."""
    min_share: Annotated[float, Field(ge=0, le=1)]
    """The least share of letters in that script, in the input or in the output."""


class FamilyContract(Settings):
    """The rules for the rows of one family."""

    required_fields: tuple[Literal["system", "history", "instruction", "input", "tools", "rejected"], ...] = ()
    """Fields of the row that may not be blank. The output never may."""
    min_input_segments: Count = 1
    """Shortest instruction and input together. A segment is a word, or one Chinese character; text has at least one."""
    max_input_segments: Count = 20_000
    """Longest instruction and input together."""
    min_output_segments: Count = 1
    """Shortest output."""
    max_output_segments: Count = 4_000
    """Longest output."""
    min_input_characters: Count | None = None
    """Shortest instruction and input together, in characters: for texts that are not words, such as code."""
    max_input_characters: Count | None = None
    """Longest instruction and input together, in characters."""
    min_output_characters: Count | None = None
    """Shortest output, in characters."""
    max_output_characters: Count | None = None
    """Longest output, in characters."""
    languages: tuple[Literal["en", "zh", "mixed"], ...] | None = None
    """The allowed languages (`mixed`: a dialogue whose users write in both); any, if left out."""
    labels: tuple[str, ...] | None = None
    """The allowed outputs."""
    max_label_characters: Annotated[int, Field(ge=1)] | None = None
    """Longest output of a classification: a longer one is not a label."""
    scripts: dict[Literal["en", "zh"], Script] = {}
    """The script of each language."""
    min_letters_for_script: Count = 20
    """A row with fewer letters is not judged by its script: formulas, code, names."""
    max_replacement_characters: Count = 0
    """How many U+FFFD a row may hold: characters lost in a wrong decoding."""
    max_mojibake_runs: Count = 0
    """How many runs of wrongly decoded text a row may hold (`â€™`, `锟斤拷`)."""
    unique_id: bool = True
    """Must the source's own id, where its `columns` name one, be unique within a batch?"""
    min_batch_rows: Annotated[int, Field(ge=1)] = 1
    """A batch with fewer rows is set aside whole."""
    rules: tuple[CustomRule, ...] = ()
    """Custom rules, checked after the built-in ones; a family's come after those of `all`, and replace one of the same name."""

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> FamilyContract:
        for name in ("input_segments", "output_segments", "input_characters", "output_characters"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{name} ({least}) is above max_{name} ({most}): no row can pass")
        if self.languages is not None and not self.languages:
            raise ValueError("languages is an empty list: no row can pass; name them, or leave it out")
        if self.labels is not None and not self.labels:
            raise ValueError("labels is an empty list: no row can pass; name the labels, or leave it out")
        return self


class Contract(Settings):
    """All files together: `all` applies to every family, and a family may override it."""

    all: FamilyContract = FamilyContract()
    """The rules for every family."""
    families: dict[str, FamilyContract] = {}
    """Family → its rules, merged with `all`."""

    def of(self, family: str) -> FamilyContract:
        """The family's rules; `all` for a family that the contract does not name."""
        return self.families.get(family, self.all)
