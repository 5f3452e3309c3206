"""Recipe `records`: structured records (a product table, a FAQ) through Jinja templates. Without a model."""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.build.row_collector import RowCollector
from tasks.build.settings import Recipe
from tasks.errors import ConfigError, SourceError
from tasks.records.raw_batch import digest_of
from tasks.runtime.bounded_jinja.environment import BoundedEnvironment

if TYPE_CHECKING:
    from jinja2 import Template

FIELDS = ("instruction", "input", "output")
LONGEST_CELL = 2**31 - 1
"""Characters: Python's own bound is 131,072."""
Record = dict[str, Any]


def generate_rows(recipe: Recipe, collector: RowCollector, advance: Callable[[int], None]) -> None:
    """Adds up to `recipe.rows` rows to `collector`: each record through each template.

    Raises:
        ConfigError: a template is not valid Jinja.
        SourceError: there is no file, or one cannot be read.
    """
    from jinja2 import TemplateError, UndefinedError

    templates = _templates(recipe)
    for record in read_records(recipe.records or ""):
        if record is None:
            collector.refuse("not_parsed")
            continue
        before, parents = len(collector.rows), [digest_of(record)]
        for template in templates:
            if collector.is_full:
                break
            try:
                fields = {name: template[name].render(record).strip() for name in FIELDS}
            except UndefinedError:
                collector.refuse("missing_field")
                continue
            # raised by an expression over this record
            except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
                collector.refuse("template_failed")
                continue
            collector.add(fields, parents)
        advance(len(collector.rows) - before)
        if collector.is_full:
            return


def read_records(pattern: str) -> Iterator[Record | None]:
    """The records of the files, in name order; None for one that is not an object.

    Raises:
        SourceError: there is no file, one is neither .jsonl nor .csv, or one cannot be read.
    """
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise SourceError("no such file", where=pattern, fix="Correct the recipe's `records`")
    for path in paths:
        readers = {".jsonl": _read_jsonl, ".csv": _read_csv}
        reader = readers.get(Path(path).suffix.lower())
        if reader is None:
            fix = "Convert it, or correct the recipe's `records`"
            raise SourceError("is neither .jsonl nor .csv", where=path, fix=fix)
        try:
            yield from reader(Path(path))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            fix = "Fix the file; its encoding must be UTF-8"
            raise SourceError(f"cannot be read ({error})", where=path, fix=fix) from error


def _read_jsonl(path: Path) -> Iterator[Record | None]:
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            yield record if isinstance(record, dict) else None


def _read_csv(path: Path) -> Iterator[Record | None]:
    csv.field_size_limit(LONGEST_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file, strict=True):
            # a line with more or fewer cells than the header
            yield None if None in record or None in record.values() else record


def _templates(recipe: Recipe) -> list[dict[str, Template]]:
    from jinja2 import StrictUndefined, TemplateSyntaxError

    sandbox = BoundedEnvironment(undefined=StrictUndefined, autoescape=False)
    templates = []
    for number, template in enumerate(recipe.templates):
        try:
            templates.append({name: sandbox.from_string(getattr(template, name)) for name in FIELDS})
        except TemplateSyntaxError as error:
            where = f"params.yaml build.recipes {recipe.name} template {number + 1}"
            raise ConfigError(f"not valid Jinja ({error.message})", where=where, fix="Fix the template") from error
    return templates
