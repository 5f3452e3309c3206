"""The project as the checks see it: params.yaml with its lines, and the sections of it that are valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from tasks import paths
from tasks.config import PipelineConfig, line_of, parse_config, read_document
from tasks.errors import ConfigError, StropError
from tasks.ingest.settings import IngestSettings, Source

if TYPE_CHECKING:
    from tasks.base.pin import BaseRecord
    from tasks.finetune.settings import TrainingSettings

Location = tuple[str | int, ...]
SECTIONS = frozenset(field.alias or name for name, field in PipelineConfig.model_fields.items())


@dataclass(frozen=True)
class Project:
    """The project in the working directory."""

    document: Any
    """params.yaml as it was read; None where it is not YAML."""
    config: PipelineConfig
    """Has the valid sections only; any other attribute is missing."""
    valid_sections: frozenset[str]
    """Of `ingest`, each valid source counts."""
    invalid: ConfigError | None = None
    """What is wrong in params.yaml."""

    @property
    def has_all_sources(self) -> bool:
        """Whether every source in params.yaml is valid."""
        section = self.document.get("ingest") or {}
        return len(section.get("sources") or ()) == len(self.config.ingest.sources)

    def where(self, *location: str | int) -> str:
        """A setting with its line, such as `params.yaml line 12, finetune.lora.rank`."""
        return f"{paths.PARAMS} line {line_of(self.document, location)}, {'.'.join(map(str, location))}"

    def trainings(self) -> Iterator[tuple[Location, TrainingSettings]]:
        """Each training with its location in params.yaml, in order."""
        for number, training in enumerate(self.config.finetune.before):
            yield ("finetune", "before", number), training
        yield ("finetune",), self.config.finetune

    def sources(self) -> Iterator[tuple[Location, Source]]:
        """Each valid source with its location."""
        entries = (self.document.get("ingest") or {}).get("sources") or ()
        numbers = {entry.get("name"): number for number, entry in enumerate(entries) if isinstance(entry, dict)}
        for source in self.config.ingest.sources:
            yield ("ingest", "sources", numbers[source.name]), source

    @cached_property
    def base(self) -> BaseRecord | None:
        """The base model, without pinning it; None where it does not exist yet.

        Raises:
            BaseModelError: it is missing, or its files differ from the pinned ones.
        """
        from tasks.base.pin import find_base

        return find_base(self.config.base)

    @property
    def base_digest(self) -> str | None:
        """None where the base does not exist yet, or has a problem, which the check `base` reports."""
        try:
            return self.base.digest if "base" in self.valid_sections and self.base is not None else None
        except StropError:
            return None


def read_project() -> Project:
    try:
        document = read_document()
    except ConfigError as error:
        return Project(None, PipelineConfig.model_construct(), frozenset(), error)
    try:
        return Project(document, parse_config(document), SECTIONS)
    except ConfigError as error:
        return _partial(document, error)


def _partial(document: Any, invalid: ConfigError) -> Project:
    """The project with the sections that are valid by themselves."""
    values: dict[str, Any] = {}
    for name, field in PipelineConfig.model_fields.items():
        annotation: Any = field.annotation
        section = document.get(field.alias or name, [] if name == "plugins" else {})
        try:
            values[name] = TypeAdapter(annotation).validate_json(json.dumps(section, default=str))
        except ValidationError:
            if name == "ingest":
                values[name] = IngestSettings.model_construct(sources=tuple(_valid_sources(document)))
    config = PipelineConfig.model_construct()
    config.__dict__.clear()  # without the defaults of sections that are not valid
    config.__dict__.update(values)
    valid = {field.alias or name for name, field in PipelineConfig.model_fields.items() if name in values}
    return Project(document, config, frozenset(valid), invalid)


def _valid_sources(document: Any) -> Iterator[Source]:
    section = document.get("ingest")
    entries = section.get("sources") if isinstance(section, dict) else None
    names: set[str] = set()
    for entry in entries if isinstance(entries, list) else ():
        try:
            source = Source.model_validate_json(json.dumps(entry, default=str))
        except ValidationError:
            continue
        if source.name not in names:
            yield source
        names.add(source.name)
