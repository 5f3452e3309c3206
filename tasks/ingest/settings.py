"""Settings of room `ingest`: where instructions are collected."""

import json
import operator
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, StringConstraints, ValidationError, field_validator, model_validator

from tasks.ingest.connectors.table import CONNECTORS
from tasks.ingest.fields import FIELDS
from tasks.ingest.readers.formats import AUTO, FORMATS
from tasks.records.code_tests import TEST_COLUMNS
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
        # as JSON, because there a strict model accepts a list for a tuple
        model.model_validate_json(json.dumps(options))
    except ValidationError as error:
        errors = [f"{'.'.join(map(str, ('options', *each['loc'])))}: {each['msg']}" for each in error.errors()]
        raise ValueError("; ".join(errors)) from error


class Source(Settings):
    name: Name
    """The source's name in reports, and of its folder in data/raw. Lower-case letters, digits, - and _."""
    kind: Annotated[str, NameIn(CONNECTORS)] = "files"
    """The kind of source: `files` (on this machine or behind any fsspec URL), `hub` (a Hugging Face dataset), `sql` (a
    database), `traces` (MLflow traces with human feedback), `served` (feedback on answers of this project's server), or one that a
    plugin adds."""
    path: str | None = None
    """files: a file, a glob (`inbox/*.jsonl`, `**` for any depth), a folder (all files below it with a known ending), or
    a URL of any of these (`s3://bucket/inbox/*.jsonl`, `gs://…`, `az://…`). A password or token in it is the name of an
    environment variable: `${NAME}`. hub: a folder that `save_to_disk` wrote, or the dataset's id."""
    shape: Shape
    """The layout of a record: `alpaca` (instruction/input/output), `sharegpt` (conversations: from/value), `messages`
    (OpenAI: role/content), `prompt_completion`, `text_label`, `preference` (chosen/rejected), `kto` (a dialogue and a
    boolean label), `text` (raw text), `conll` (tokens/tags), `parallel` (source/target), `row` (Strop's own fields)."""
    family: Name
    """The task family: selects the template file (data/templates/<family>.yaml) and the part of the contract."""
    use: Literal["train", "golden", "benchmark"] = "train"
    """The use of the rows: `train` (split into training, validation and test), `golden` (test only), `benchmark` (neither
    training nor test: training rows that overlap them are dropped)."""
    format: Format = "auto"
    """files: the format: `jsonl`, `json`, `csv`, `parquet`, `conll`, `text`, `parallel` (pairs of files), `semeval` (the
    blocks of SemEval-2010 task 8; shape `text_label`, family `relation`), or one that a plugin adds. `auto`: by the ending, also
    before `.gz` or `.zst`."""
    encoding: str = "utf-8"
    """files: text encoding (`utf-8`, `gb18030`, ...). A byte order mark overrides it."""
    text_unit: Literal["line", "document"] = "line"
    """files: the record of a text file: a `line`, or a `document` (lines up to a blank line)."""
    parallel: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)] | None = None
    """files of format `parallel`: the part of the name in which the two files differ, source language first: `[en, de]`
    reads `train.en.gz` with `train.de.gz`; `path` is that of the first."""
    settle_seconds: Annotated[float, Field(ge=0)] | None = None
    """files on this machine: a file that changed less than this many seconds ago may still be written, and is left to the next
    run. None: 5 in a folder, 0 for a file or glob."""
    follow_links: bool = False
    """files on this machine: read symbolic links to files outside the folder or glob; by default they are reported and skipped."""
    max_uncompressed_bytes: Annotated[int, Field(ge=1)] | None = None
    """files, hub: the largest uncompressed size of a compressed, Parquet or Arrow file; larger ones are refused. None: the larger
    of 64 MiB and 100 times the file's size; for Parquet and Arrow also 256 bytes a row, of two million rows at most."""
    image_folder: str | None = None
    """The folder of the records' images. None: that of the file that names them."""
    storage_options: dict[str, JsonValue] = {}
    """files behind a URL: options of fsspec's file system: `{client_kwargs: {endpoint_url: …}, key: "${S3_KEY}"}`.
    Keys, tokens and passwords are names of environment variables."""
    revision: str | None = None
    """hub: the dataset's commit or tag; required for an id."""
    subset: str | None = None
    """hub: the dataset's configuration, for an id."""
    split: str | None = None
    """hub: the split to read. None: all splits."""
    url: str | None = None
    """sql: the database's URL for SQLAlchemy: `postgresql://reader:${DB_PASSWORD}@host/name`. A password is the name of an
    environment variable."""
    table: str | None = None
    """sql: the table to read; or `query`."""
    query: str | None = None
    """sql: the query to read; or `table`."""
    watermark: str | None = None
    """sql: a column whose values only grow (an id, a time of change): each run reads the rows at or above its last value.
    None: each run reads all rows."""
    overlap: Annotated[float, Field(gt=0)] | None = None
    """sql: how far below the watermark's last value each run reads, as a row may be committed after one with a higher value:
    seconds for a time, days for a date, else a number. Rows that raw contains are not collected twice."""
    tracking_uri: str | None = None
    """traces: the MLflow server or file. served: the registry, if feedback that people give in MLflow counts, too."""
    experiment: str | None = None
    """traces: the experiment's name. served: that of the model, `register.model_name`."""
    rating: str | None = None
    """traces, served: the name of the feedback that rates an answer; traces without it are skipped. served: None: ratings make no
    rows."""
    rating_min: float | None = None
    """traces, served: the lowest rating of a good answer. None: the rating is yes or no; served: 0.5."""
    answer: str | None = None
    """traces: the name of the feedback or expectation with an edited answer. It is then the target, whatever the
    rating."""
    feedback_from: Annotated[tuple[Literal["human", "llm", "code"], ...], Field(min_length=1)] = ("human",)
    """served: whose feedback makes rows."""
    cap_per_user: Annotated[int, Field(ge=1)] | None = 50
    """served: the number of answers on which the feedback of one user counts: the first ones. Feedback without `user` is counted by
    its API key. None: no limit."""
    free_prompts: bool = False
    """served: answers to chat messages, which name no family, become rows of `family`, in place of those of `/v1/predict` that name
    it."""
    options: Annotated[dict[str, JsonValue], Field(exclude_if=operator.not_)] = {}
    """Settings of a source kind that a plugin adds. Keys, tokens and passwords are names of environment variables."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the rows; `auto`: by the script of each row."""
    columns: dict[str, str] = {}
    """Field of the shape → column of the source, if their names differ: `{text: body, label: section}`. `id` is a column whose
    values must be unique within a batch. `tests`, with `tests_setup` and `entry_point`: the tests of an answer of code
    ([the data](data.md#tests-of-code))."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """The most rows that are collected from the source, in all runs: the first ones, or with `sample_seed` a random sample."""
    sample_seed: int | None = None
    """Seed of a random sample of `max_rows`, in place of the first rows: a sample of a file that is sorted by label has all labels.
    It is drawn from the new rows of a run, which are read twice; rows that were collected before are kept."""

    @field_validator("encoding")
    @classmethod
    def encoding_exists(cls, encoding: str) -> str:
        try:
            "a".encode(encoding).decode(encoding, "replace")
            b"\xff".decode(encoding, "replace")  # `idna` and `punycode` cannot
        except (LookupError, TypeError, ValueError) as error:
            others = "use utf-8, gb18030, big5, utf-16, cp1252, ..."
            raise ValueError(f"`{encoding}` is not a text encoding; {others}") from error
        return encoding

    @field_validator("path", "image_folder", "storage_options", "url", "tracking_uri", "options")
    @classmethod
    def secrets_are_names(cls, value: Any) -> Any:
        if secret := literal_secret(value):
            raise ValueError(f"{secret} {USE_A_VARIABLE}")
        return value

    @model_validator(mode="after")
    def columns_are_fields(self) -> "Source":
        known = (*FIELDS[self.shape], "id", *TEST_COLUMNS)
        unknown = sorted(set(self.columns) - set(known))
        if unknown:
            fields = f"shape `{self.shape}` has no field {', '.join(unknown)}; it has {', '.join(known)}"
            raise ValueError(f"columns: {fields} (left: our field, right: your column)")
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
    """Where instructions are collected. Each run reads all sources and collects the new rows."""

    @model_validator(mode="after")
    def names_differ(self) -> "IngestSettings":
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are named {', '.join(twice)}; each needs a name of its own")
        return self
