"""params.yaml → one strict, frozen `PipelineConfig`, a section a room. All mistakes are reported at once.

See it: `strop config`. Its JSON schema, for editors: `strop config --schema`.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks import paths
from tasks.base.settings import BaseSettings
from tasks.build.settings import BuildSettings
from tasks.config_checks import mistakes_in
from tasks.curate.settings import CurateSettings
from tasks.errors import ConfigError
from tasks.evaluate.settings import EvaluateSettings
from tasks.finetune.settings import FinetuneSettings
from tasks.gate.settings import GateSettings
from tasks.ingest.settings import IngestSettings
from tasks.promote.settings import PromoteSettings
from tasks.register.settings import RegisterSettings
from tasks.render.settings import RenderSettings
from tasks.runtime.base_settings import Settings
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import why_unreadable
from tasks.runtime.plurals import count_of
from tasks.runtime.redaction.settings import USE_A_VARIABLE, literal_secrets_in_addresses
from tasks.runtime.redaction.text import redact
from tasks.validate.settings import ValidateSettings


class PipelineConfig(Settings):
    """Everything that params.yaml can say."""

    model_config = ConfigDict(serialize_by_alias=True)

    base: BaseSettings
    """The base model."""
    ingest: IngestSettings
    """Where instructions are collected."""
    build: BuildSettings = BuildSettings()
    """Instruction rows that are made, where too few are collected."""
    validate_: ValidateSettings = Field(alias="validate")
    """How much of a batch may be refused."""
    curate: CurateSettings
    """Cleaning and the split."""
    render: RenderSettings
    """Lengths of examples and packed rows."""
    finetune: FinetuneSettings
    """Training."""
    evaluate: EvaluateSettings
    """How the models are compared."""
    gate: GateSettings
    """The policy of promotion."""
    register_: RegisterSettings = Field(alias="register")
    """The registry."""
    promote: PromoteSettings
    """Who promotes."""


def load_config(path: Path = paths.PARAMS) -> PipelineConfig:
    """Reads and checks params.yaml.

    Raises:
        ConfigError: the file is missing, is no YAML, or says something that it may not. Every mistake is listed, with its
            line, the value, what is allowed, and the nearest valid key.
    """
    try:
        document = load_yaml(path.read_text(encoding="utf-8-sig"), "rt")
    except FileNotFoundError as error:
        raise ConfigError(
            "not found", where=str(path), fix="Copy a recipe: cp recipes/smollm2-news.yaml params.yaml"
        ) from error
    except ValueError as error:
        raise ConfigError(why_unreadable(error, path), where=str(path), fix="Mend it at that place") from error
    if not isinstance(document, dict):
        raise ConfigError(
            "holds no sections", where=str(path), fix="Copy a recipe: cp recipes/smollm2-news.yaml params.yaml"
        )
    try:
        # as JSON, because a strict model takes a list for a tuple there
        config = PipelineConfig.model_validate_json(json.dumps(document, default=str))
        refused: list[Any] = []
    except ValidationError as error:
        refused = error.errors()
    mistakes = [(line, redact(what)) for line, what in _mistakes(refused, document, path.parent)]
    if mistakes:
        mistakes = sorted({*mistakes, *_written_secrets(document)})
        lines = "".join(f"\n  line {line}: {what}" for line, what in mistakes)
        raise ConfigError(
            f"{count_of(len(mistakes), 'mistake')}:{lines}\n",
            where=str(path),
            fix="Every setting is explained in docs/settings.md",
        )
    if secrets := _written_secrets(document):
        lines = "".join(f"\n  line {line}: {what}" for line, what in sorted(secrets))
        fix = "params.yaml is in git, and in every version's commit; see docs/security.md"
        raise ConfigError(f"{count_of(len(secrets), 'secret')}:{lines}\n", where=str(path), fix=fix)
    return config


def _mistakes(refused: list[Any], document: Any, root: Path) -> list[tuple[int, str]]:
    """What the settings refuse, and what they cannot see themselves, as (line, text); each place once."""
    places = {_location(mistake) for mistake in refused}
    others = [(location, what) for location, what in mistakes_in(document, root) if tuple(location) not in places]
    return [_describe(mistake, document) for mistake in refused] + [
        (_line_of(document, location), f"`{'.'.join(map(str, location))}` {what}") for location, what in others
    ]


def _location(mistake: Any) -> tuple[Any, ...]:
    return tuple(part for part in mistake["loc"] if isinstance(part, int) or not _is_union_branch(part))


def _written_secrets(document: Any) -> list[tuple[int, str]]:
    """Addresses with a password or token written out, as (line, text)."""
    return [
        (_line_of(document, location), f"`{'.'.join(map(str, location))}`: {secret} {USE_A_VARIABLE}")
        for location, secret in literal_secrets_in_addresses(document)
    ]


def _describe(mistake: Any, document: Any) -> tuple[int, str]:
    """A mistake as (line, text)."""
    location = list(_location(mistake))
    key = ".".join(str(part) for part in location)
    line = _line_of(document, location)
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return line, f"`{key}` is no setting; {hint}"
    if mistake["type"] == "missing":
        return line, f"`{key}` is missing; it is required"
    allowed = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    value = redact(json.dumps(mistake["input"], ensure_ascii=False, default=str))
    if mistake["type"] == "value_error":
        return line, f"`{key}`: {allowed}"
    return line, f"`{key}` is {value[:80]}, but should be {allowed}"


def _is_union_branch(part: str) -> bool:
    """Pydantic names the branch of a union in an error's location; those names are no keys of ours."""
    return part.startswith(("literal[", "tuple[", "constrained-", "function-"))


def _line_of(document: Any, location: list[Any]) -> int:
    """The line (from 1) of the deepest part of `location` that the document has."""
    line = 1
    for part in location:
        try:
            position = document.lc.data[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
        line = position[0] + 1
        document = document[part]
    return line


def _known_keys(location: list[Any]) -> list[str]:
    """The valid keys of the section at `location`."""
    model: Any = PipelineConfig
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
        if field is None:  # a key chosen by the user, such as a family's name
            continue
        model = settings_within(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def settings_within(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside an annotation such as `tuple[Source, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := settings_within(inner):
            return found
    return None
