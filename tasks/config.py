"""params.yaml → one strict, frozen `PipelineConfig`, one section per room. All errors are reported at once.

Print it: `strop config`. Its JSON schema, for editors: `strop config --schema`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks import paths
from tasks.base.settings import BaseSettings
from tasks.build.settings import BuildSettings
from tasks.config_checks import errors_in
from tasks.curate.settings import CurateSettings
from tasks.errors import ConfigError
from tasks.evaluate.settings import EvaluateSettings
from tasks.finetune.settings import FinetuneSettings
from tasks.gate.settings import GateSettings
from tasks.ingest.settings import IngestSettings
from tasks.lineage.settings import LineageSettings
from tasks.promote.settings import PromoteSettings
from tasks.register.settings import RegisterSettings
from tasks.render.settings import RenderSettings
from tasks.retention.settings import RetentionSettings
from tasks.runtime.base_settings import Settings
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.files import why_unreadable
from tasks.runtime.plugin_files import PluginError
from tasks.runtime.plugin_table import UnknownName
from tasks.runtime.plugins import load_plugins
from tasks.runtime.plurals import count_of
from tasks.runtime.redaction.settings import ADVICE, USE_A_VARIABLE, literal_secrets_in_addresses
from tasks.runtime.redaction.text import redact
from tasks.serve.settings import ServeSettings
from tasks.signing.settings import SigningSettings
from tasks.validate.settings import ValidateSettings

MODULE_NAME = r"^[^\W\d]\w*(\.[^\W\d]\w*)*$"
COPY_A_RECIPE = "Copy a recipe: cp recipes/smollm2-news.yaml params.yaml"
PluginName = Annotated[str, Field(pattern=MODULE_NAME)]


class PipelineConfig(Settings):
    """All settings in params.yaml."""

    model_config = ConfigDict(serialize_by_alias=True)

    plugins: tuple[PluginName, ...] = ()
    """Modules of your own, importable from the project's folder or the environment, that add objectives, metrics, source kinds and
    other named parts: `[my_package.strop]` ([extending Strop](extend.md))."""
    base: BaseSettings
    """The base model."""
    ingest: IngestSettings
    """Where instructions are collected."""
    build: BuildSettings = BuildSettings()
    """Generated instruction rows, if too few are collected."""
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
    signing: SigningSettings = SigningSettings()
    """Signatures of receipts and ledger entries."""
    lineage: LineageSettings = LineageSettings()
    """Where runs are reported."""
    retention: RetentionSettings = RetentionSettings()
    """What `strop gc` removes."""
    serve: ServeSettings = ServeSettings()
    """The HTTP server, `strop serve`."""


def load_config(path: Path = paths.PARAMS) -> PipelineConfig:
    """Loads the plugins of params.yaml from its folder, then reads and checks all settings.

    Raises:
        ConfigError: the file is missing, is not valid YAML, names a plugin that cannot be imported, or has an invalid setting.
            Every error is listed with its line, the value, what is allowed, and the nearest valid key.
    """
    return parse_config(read_document(path), path)


def parse_config(document: Any, path: Path = paths.PARAMS) -> PipelineConfig:
    """As `load_config`, from the content of the file."""
    plugin_error = _load_plugins(document, path)
    try:
        # as JSON, because there a strict model accepts a list for a tuple
        config = PipelineConfig.model_validate_json(json.dumps(document, default=str))
        refused: list[Any] = []
    except ValidationError as error:
        refused = error.errors()
    fix = "Every setting is explained in docs/settings.md"
    if plugin_error is not None:  # an unknown name may be the plugin's
        refused = [error for error in refused if not _is_unknown_name(error)]
    errors = [(line, redact(what)) for line, what in _all_errors(refused, document, path.parent)]
    if plugin_error is not None:
        fix = fix if errors else str(plugin_error.fix)
        line = line_of(document, ["plugins", document["plugins"].index(plugin_error.name)])
        errors.append((line, f"`plugins`: {redact(plugin_error.what)}"))
    if errors:
        raise _listed(path, "error", sorted({*errors, *_literal_secrets(document)}), fix)
    if secrets := _literal_secrets(document):
        fix = "params.yaml is in git, and in every version's commit; see docs/security.md"
        raise _listed(path, "secret", sorted(secrets), fix)
    return config


def read_document(path: Path = paths.PARAMS) -> Any:
    """The content of params.yaml, unchecked, with the lines of its keys.

    Raises:
        ConfigError: the file is missing, is not valid YAML, or has no sections.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        load_yaml(text)  # as DVC does: what it cannot read would stop a run
        document = load_yaml(text, "rt")
    except FileNotFoundError as error:
        raise ConfigError("not found", where=str(path), fix=COPY_A_RECIPE) from error
    except ValueError as error:
        raise ConfigError(why_unreadable(error, path), where=str(path), fix="Fix it at that line") from error
    if not isinstance(document, dict):
        raise ConfigError("has no sections", where=str(path), fix=COPY_A_RECIPE)
    return document


def _listed(path: Path, noun: str, errors: list[tuple[int, str]], fix: str) -> ConfigError:
    """The error that lists several, each as (line, text)."""
    lines = "".join(f"\n  line {line}: {what}" for line, what in errors)
    parts = [(f"{path} line {line}", what) for line, what in errors]
    return ConfigError(f"{count_of(len(errors), noun)}:{lines}\n", where=str(path), fix=fix, parts=parts)


def _load_plugins(document: Any, path: Path) -> PluginError | None:
    """Imports the plugins, which make names valid in the settings; names that are no module's are left to the model."""
    names = document.get("plugins", [])
    is_valid = isinstance(names, list) and all(isinstance(name, str) and re.match(MODULE_NAME, name) for name in names)
    try:
        load_plugins(names if is_valid else [], path.parent)
    except PluginError as error:
        return error
    return None


def _all_errors(refused: list[Any], document: Any, root: Path) -> list[tuple[int, str]]:
    """(line, text) of every error: those of the models, and of checks across sections for locations without an error."""
    locations = {_location(error) for error in refused}
    others = [(location, what) for location, what in errors_in(document, root) if tuple(location) not in locations]
    return [_describe(error, document) for error in refused] + [
        (line_of(document, location), f"`{'.'.join(map(str, location))}` {what}") for location, what in others
    ]


def _is_unknown_name(error: Any) -> bool:
    return error["type"] == "unknown_name" or isinstance(error.get("ctx", {}).get("error"), UnknownName)


def _location(error: Any) -> tuple[Any, ...]:
    return tuple(part for part in error["loc"] if isinstance(part, int) or not _is_union_branch(part))


def _literal_secrets(document: Any) -> list[tuple[int, str]]:
    """(line, text) of addresses with a literal password or token."""
    return [
        (
            line_of(document, location),
            f"`{'.'.join(map(str, location))}`: {secret} {ADVICE.get(tuple(location), USE_A_VARIABLE)}",
        )
        for location, secret in literal_secrets_in_addresses(document)
    ]


def _describe(error: Any, document: Any) -> tuple[int, str]:
    """An error as (line, text)."""
    location = list(_location(error))
    key = ".".join(str(part) for part in location)
    line = line_of(document, location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.4)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return line, f"`{key}` is not a setting; {hint}"
    if error["type"] == "missing":
        return line, f"`{key}` is missing; it is required"
    allowed = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    value = redact(json.dumps(error["input"], ensure_ascii=False, default=str))
    if error["type"] == "value_error":
        given = error["input"]
        if isinstance(given, str) and len(given) > 80:
            allowed = allowed.replace(given, f"{given[:80]}…")
        return line, f"`{key}`: {allowed}"
    return line, f"`{key}` is {value[:80]}, but should be {allowed}"


def _is_union_branch(part: str) -> bool:
    """Whether a part of an error's location is pydantic's name of a union branch, and not a key."""
    return part.startswith(("literal[", "tuple[", "constrained-", "function-", "tagged-"))


def line_of(document: Any, location: Sequence[Any]) -> int:
    """The line (from 1) of the deepest part of `location` that exists in the document."""
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
        if settings := settings_within(inner):
            return settings
    return None
