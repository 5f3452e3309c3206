"""data/contract/contract.yaml → what a good row of each family is. Strict: all mistakes at once, each with its line."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tasks import paths
from tasks.errors import ConfigError
from tasks.settings import Settings

Count = Annotated[int, Field(ge=0)]


class Script(Settings):
    script: Literal["Latin", "Han", "Cyrillic", "Arabic", "Greek", "Hangul", "Hiragana", "Katakana"]
    """A Unicode script."""
    min_share: Annotated[float, Field(ge=0, le=1)]
    """The least share of letters in that script, in the input or in the output."""


class FamilyContract(Settings):
    """What a good row of one family is."""

    required_fields: tuple[Literal["system", "instruction", "input"], ...] = ()
    """Fields of the row that may not be blank. The output never may."""
    min_input_segments: Count = 1
    """Shortest instruction and input together. A segment is a word, or one Chinese character; text has at least one."""
    max_input_segments: Count = 20_000
    """Longest instruction and input together."""
    min_output_segments: Count = 1
    """Shortest output."""
    max_output_segments: Count = 4_000
    """Longest output."""
    labels: tuple[str, ...] | None = None
    """The outputs that may be, and no others."""
    max_label_characters: Annotated[int, Field(ge=1)] | None = None
    """Longest output of a classification: a longer one is no label."""
    scripts: dict[Literal["en", "zh"], Script] = {}
    """The script of each language."""
    min_letters_for_script: Count = 20
    """A row with fewer letters is not judged by its script: formulas, code, names."""
    max_replacement_characters: Count = 0
    """How many U+FFFD a row may hold: characters lost when somebody decoded the text wrongly."""
    max_mojibake_runs: Count = 0
    """How many runs of wrongly decoded text a row may hold (`â€™`, `锟斤拷`)."""
    unique_id: bool = True
    """Must the source's own id, where its `columns` name one, be unique within a batch?"""
    min_batch_rows: Annotated[int, Field(ge=1)] = 1
    """A batch with fewer rows is set aside whole."""

    @model_validator(mode="after")
    def bounds_are_in_order(self) -> FamilyContract:
        for part in ("input", "output"):
            least, most = getattr(self, f"min_{part}_segments"), getattr(self, f"max_{part}_segments")
            if least > most:
                raise ValueError(
                    f"min_{part}_segments ({least}) is above max_{part}_segments ({most}): no row can pass"
                )
        if self.labels is not None and not self.labels:
            raise ValueError("labels is an empty list: no row can pass; name the labels, or leave it out")
        return self


class Contract(Settings):
    """The file: `all` holds for every family; a family may say otherwise."""

    all: FamilyContract = FamilyContract()
    """For every family."""
    families: dict[str, FamilyContract] = {}
    """Family → what is otherwise there, already filled up with `all`."""

    def of(self, family: str) -> FamilyContract:
        """What holds for the family; `all` for one that the contract does not name."""
        return self.families.get(family, self.all)


def load_contract(path: Path = paths.CONTRACT) -> Contract:
    """Reads and checks the contract.

    Raises:
        ConfigError: the file is missing, is no YAML, or says something that it may not.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8-sig")) or {}
    except FileNotFoundError as error:
        raise ConfigError("not found", where=str(path), fix=f"Bring it back: git checkout -- {path}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"not readable as YAML: {told}", where=str(path), fix="Mend it at that place") from error
    mistakes = _mistakes_of(document)
    if mistakes:
        lines = "".join(f"\n  line {line}: {what}" for line, what in sorted(set(mistakes)))
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigError(f"{count}:{lines}\n", where=str(path), fix="The file's comments say what each key means")
    common = dict(document.get("all") or {})
    families = {name: _parse(common | dict(own or {})) for name, own in (document.get("families") or {}).items()}
    return Contract(all=_parse(common), families=families)


def _parse(values: dict[str, Any]) -> FamilyContract:
    # as JSON, because a strict model takes a list for a tuple there
    return FamilyContract.model_validate_json(json.dumps(values, default=str))


def _mistakes_of(document: Any) -> list[tuple[int, str]]:
    """Every mistake as (line, text)."""
    if not isinstance(document, dict):
        return [(1, "it should hold `all:` and `families:`")]
    mistakes = [
        (_line_of(document, [key]), f"`{key}` is no part of a contract; {_nearest(str(key), ['all', 'families'])}")
        for key in document
        if key not in ("all", "families")
    ]
    common = document.get("all") or {}
    families = document.get("families") or {}
    parts: list[tuple[list[Any], Any]] = [(["all"], common)]
    if isinstance(families, dict):
        parts += [(["families", name], own or {}) for name, own in families.items()]
    else:
        mistakes.append((_line_of(document, ["families"]), "`families` should be a mapping: family → its rules"))
    common_is_good = False
    for place, values in parts:
        if not isinstance(values, dict):
            mistakes.append((_line_of(document, place), f"`{'.'.join(place)}` should be a mapping: rule → bound"))
            continue
        # bounds that contradict each other may stand one in `all`, one in the family
        whole = values if place == ["all"] or not common_is_good else dict(common) | dict(values)
        try:
            _parse(dict(whole))
            common_is_good = common_is_good or place == ["all"]
        except ValidationError as error:
            mistakes += [_describe(each, document, place) for each in error.errors()]
    return mistakes


def _describe(mistake: Any, document: Any, place: list[Any]) -> tuple[int, str]:
    location = [*place, *mistake["loc"]]
    key = ".".join(str(part) for part in location)
    line = _line_of(document, location)
    if mistake["type"] == "extra_forbidden":
        model = Script if "scripts" in location else FamilyContract
        return line, f"`{key}` is no rule; {_nearest(str(location[-1]), list(model.model_fields))}"
    if mistake["type"] == "missing":
        return line, f"`{key}` is missing; it is required"
    allowed = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if mistake["type"] == "value_error":
        return line, f"`{key}`: {allowed}"
    value = json.dumps(mistake["input"], ensure_ascii=False, default=str)
    return line, f"`{key}` is {value[:80]}, but should be {allowed}"


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"


def _line_of(document: Any, location: list[Any]) -> int:
    """The line (from 1) of the deepest part of `location` that the document has."""
    line = 1
    for part in location:
        try:
            line = document.lc.data[part][0] + 1
            document = document[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    return line
