"""Settings of room `ingest`: where instructions are collected."""

import json
import operator
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints, ValidationError, field_validator, model_validator

from tasks.ingest.connectors.table import CONNECTORS
from tasks.ingest.fields import FIELDS
from tasks.ingest.readers.formats import AUTO, FORMATS
from tasks.runtime.base_settings import Settings
from tasks.runtime.plugin_name import NameIn
from tasks.runtime.redaction.settings import USE_A_VARIABLE, literal_secret

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Shape = Literal[
    "alpaca",
    "sharegpt",
    "messages",
    "prompt_completion",
    "text_label",
    "preference",
    "kto",
    "text",
    "conll",
    "parallel",
    "row",
]
Format = Annotated[str, NameIn(FORMATS, others=(AUTO,))]

_ALL_KINDS = {"name", "kind", "shape", "family", "language", "columns", "max_rows", "sample_seed", "use"}
"""Settings of all kinds of sources."""


def _require_options(model: type[Settings], options: dict[str, JsonValue]) -> None:
    """Raises ValueError with every error of a plugin's settings."""
    try:
        model.model_validate_json(
            json.dumps(options)
        )  # as JSON, because there a strict model accepts a list for a tuple
    except ValidationError as error:
        errors = [f"{'.'.join(map(str, ('options', *each['loc'])))}: {each['msg']}" for each in error.errors()]
        raise ValueError("; ".join(errors)) from error


class Source(Settings):
    name: Name
    """The source's name: its folder in data/raw, and how reports call it. Lower-case letters, digits, - and _."""
    kind: Annotated[str, NameIn(CONNECTORS)] = "files"
    """The kind of source: `files` (on this machine or behind any fsspec URL), `hub` (a Hugging Face dataset), `sql` (a
    database), `traces` (MLflow traces with human feedback), or one that a plugin adds."""
    path: str | None = None
    """files: a file, a glob (`inbox/*.jsonl`, `**` for any depth), a folder (all files below it whose ending is known), or
    a URL of any of these (`s3://bucket/inbox/*.jsonl`, `gs://…`, `az://…`). A password or token in it stands in an
    environment variable, by name alone. hub: a folder that `save_to_disk` wrote, or the
    dataset's id."""
    shape: Shape
    """How a record is laid out: `alpaca` (instruction/input/output), `sharegpt` (conversations: from/value), `messages`
    (OpenAI: role/content), `prompt_completion`, `text_label`, `preference` (chosen/rejected), `kto` (a dialogue and a
    boolean label), `text` (text alone), `conll` (tokens/tags), `parallel` (source/target), `row` (Strop's own fields)."""
    family: Name
    """The task family: which template file (data/templates/<family>.yaml) and which part of the contract apply."""
    use: Literal["train", "golden", "benchmark"] = "train"
    """What the rows are for: `train` (split into training, validation and test), `golden` (only ever tested on),
    `benchmark` (neither trained nor tested on: training rows that overlap them are dropped)."""
    format: Format = "auto"
    """files: the format: `jsonl`, `json`, `csv`, `parquet`, `conll`, `text`, `parallel` (two files side by side), or `semeval` (the
    blocks of SemEval-2010 task 8; shape `text_label`, family `relation`). `auto` goes by the ending, behind `.gz` or `.zst` too."""
    encoding: str = "utf-8"
    """files: text encoding (`utf-8`, `gb18030`, ...). A byte order mark is understood with any of them."""
    text_unit: Literal["line", "document"] = "line"
    """files: what a record of a text file is: a `line`, or a `document`: a block of lines between blank ones."""
    parallel: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)] | None = None
    """files of format `parallel`: the part of the name in which two files side by side differ, source first: `[en, de]`
    reads `train.en.gz` beside `train.de.gz`; `path` names the first."""
    settle_seconds: Annotated[float, Field(ge=0)] | None = None
    """files here: one that changed within this many seconds may still be written, and is left for the next run. None: 5 in
    a folder, 0 for a file or glob."""
    follow_links: bool = False
    """files here: read symbolic links that lead out of the folder or glob; without it they are named, and left."""
    max_uncompressed_bytes: Annotated[int, Field(ge=1)] | None = None
    """files, hub: what is larger unpacked (a compressed file, a Parquet or Arrow file) is refused. None: 64 MiB, or 100 times its
    size where that is more; for Parquet and Arrow also 256 bytes a row, of two million rows at most."""
    image_folder: str | None = None
    """Where the records' images lie. None: beside the file that names them."""
    storage_options: dict[str, JsonValue] = {}
    """files behind a URL: how to reach them, as fsspec takes it: `{client_kwargs: {endpoint_url: …}, key: "${S3_KEY}"}`.
    Keys, tokens and passwords stand in environment variables, by name alone."""
    revision: str | None = None
    """hub: the dataset's commit or tag; an id needs one."""
    subset: str | None = None
    """hub: the dataset's configuration, for an id."""
    split: str | None = None
    """hub: the split that is read; all of them where there is none."""
    url: str | None = None
    """sql: the database, as SQLAlchemy takes it: `postgresql://reader:${DB_PASSWORD}@host/name`. A password stands in an
    environment variable, by name alone."""
    table: str | None = None
    """sql: the table that is read, whole; or `query`."""
    query: str | None = None
    """sql: the query that is read, without a final semicolon; or `table`."""
    watermark: str | None = None
    """sql: a column that only grows (an id, a time of change): only rows at or above its last value are read. Without
    one, every row is read every time."""
    overlap: Annotated[float, Field(gt=0)] | None = None
    """sql: how far below the watermark's last value rows are read again, since a row may be committed after one that has a
    higher value: seconds for a time, days for a date, else a number. What raw holds already is not taken twice."""
    tracking_uri: str | None = None
    """traces: the MLflow server or file."""
    experiment: str | None = None
    """traces: the experiment's name."""
    rating: str | None = None
    """traces: the name of the feedback that says whether an answer was good; traces without it are left."""
    rating_min: float | None = None
    """traces: the least rating that is good. None: the rating is yes or no."""
    answer: str | None = None
    """traces: the name of the feedback or expectation that holds the answer as a person edited it. It is then what is
    learnt, whatever the rating."""
    options: Annotated[dict[str, JsonValue], Field(exclude_if=operator.not_)] = {}
    """Settings of a source kind that a plugin adds. Keys, tokens and passwords are names of environment variables."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the rows; `auto` looks at each row's script."""
    columns: dict[str, str] = {}
    """Where our fields are found, if under other names: `{text: body, label: section}`. `id` names a column whose value
    must be unique within a batch."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """At most this many rows are ever taken from the source: the first ones, or with `sample_seed` a sample."""
    sample_seed: int | None = None
    """Take a random sample of `max_rows`, by this seed, not the first rows: a file that is sorted by its labels gives all of them.
    It is drawn from what is new in a run, which is read twice; what was taken stays."""

    @field_validator("encoding")
    @classmethod
    def encoding_exists(cls, encoding: str) -> str:
        try:
            "a".encode(encoding).decode(encoding, "replace")
            b"\xff".decode(encoding, "replace")  # which `idna` and `punycode` know not
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"`{encoding}` is no text encoding; use utf-8, gb18030, big5, utf-16, cp1252, ..."
            ) from error
        return encoding

    @field_validator("path", "image_folder", "storage_options", "url", "tracking_uri", "options")
    @classmethod
    def secrets_are_names(cls, value: Any) -> Any:
        if found := literal_secret(value):
            raise ValueError(f"{found} {USE_A_VARIABLE}")
        return value

    @model_validator(mode="after")
    def columns_are_fields(self) -> "Source":
        known = (*FIELDS[self.shape], "id")
        unknown = sorted(set(self.columns) - set(known))
        if unknown:
            raise ValueError(
                f"columns: shape `{self.shape}` has no field {', '.join(unknown)}; it has {', '.join(known)}"
                " (left: our field, right: your column)"
            )
        return self

    @model_validator(mode="after")
    def settings_fit_the_kind(self) -> "Source":
        kind = CONNECTORS[self.kind]
        if missing := sorted(name for name in kind.requires if getattr(self, name) is None):
            raise ValueError(f"kind `{self.kind}` needs {', '.join(f'`{name}`' for name in missing)}")
        valid = kind.requires | kind.allows | ({"options"} if kind.options else set())
        if invalid := sorted(self.model_fields_set - _ALL_KINDS - valid):
            names = ", ".join(f"`{name}`" for name in invalid)
            raise ValueError(f"kind `{self.kind}` has no {names}; it has {', '.join(sorted(valid))}")
        if kind.options is not None:
            _require_options(kind.options, self.options)
        if problem := kind.problem(self.model_dump()):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def settings_fit_each_other(self) -> "Source":
        if self.sample_seed is not None and self.max_rows is None:
            raise ValueError("`sample_seed` needs `max_rows`, the size of the sample")
        if (self.format != AUTO and FORMATS[self.format].is_pair) != (self.parallel is not None):
            raise ValueError("`format: parallel` and `parallel: [en, de]` need each other")
        return self


class IngestSettings(Settings):
    sources: tuple[Source, ...] = ()
    """Where instructions are collected; each is read anew on every run, and only what is new is taken."""

    @model_validator(mode="after")
    def names_differ(self) -> "IngestSettings":
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are named {', '.join(twice)}; a name may stand once")
        return self
