"""Settings of room `ingest`: where instructions are collected."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from tasks.settings import Settings

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Shape = Literal["alpaca", "sharegpt", "messages", "prompt_completion", "text_label"]

FIELDS: dict[str, tuple[str, ...]] = {
    "alpaca": ("instruction", "input", "output", "system", "history"),
    "sharegpt": ("conversations", "from", "value", "system"),
    "messages": ("messages", "role", "content"),
    "prompt_completion": ("prompt", "completion", "system"),
    "text_label": ("text", "label"),
}
"""The fields of each shape; `columns` may say where they are found."""


class Source(Settings):
    name: Name
    """The source's name: its folder in data/raw, and how reports call it. Lower-case letters, digits, - and _."""
    path: str
    """A file, or a glob (`inbox/*.jsonl`, `**` for any depth), relative to the project or absolute."""
    shape: Shape
    """How a record is laid out: `alpaca` (instruction/input/output), `sharegpt` (conversations: from/value), `messages`
    (OpenAI: role/content), `prompt_completion`, `text_label`."""
    family: Name
    """The task family: which template file (data/templates/<family>.yaml) and which part of the contract apply."""
    format: Literal["auto", "jsonl", "json", "csv", "parquet"] = "auto"
    """The file format; `auto` goes by the file's ending."""
    encoding: str = "utf-8"
    """Text encoding of the files (`utf-8`, `gb18030`, ...). A byte order mark is understood with any of them."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the rows; `auto` looks at each row's script."""
    columns: dict[str, str] = {}
    """Where our fields are found, if under other names: `{text: body, label: section}`. `id` names a column whose value
    must be unique within a batch."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """At most this many rows are ever taken from the source, in file order."""

    @field_validator("encoding")
    @classmethod
    def encoding_exists(cls, encoding: str) -> str:
        try:
            "a".encode(encoding).decode(encoding)
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"`{encoding}` is no text encoding; use utf-8, gb18030, big5, utf-16, cp1252, ..."
            ) from error
        return encoding

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
