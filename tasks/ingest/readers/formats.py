"""The file formats. A new format is its module and an entry here; a plugin adds its own with `FORMATS.add`.

Readers are named, not imported, as connectors are (connectors/table.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.runtime.plugin_table import PluginTable

AUTO = "auto"
"""The value of the setting `format` that means: by the ending of the file's name."""


@dataclass(frozen=True)
class FileFormat:
    """How files of a format are recognised and read."""

    reader: str
    """`module:name` of a function (content, source) → records; imported when it is used."""
    endings: tuple[str, ...] = ()
    """Endings of file names, in lower case, without `.gz` or `.zst`. Without one, a source names the format."""
    is_line_based: bool = False
    """Whether records may be appended to a file."""
    resumes: bool = False
    """Whether the reader can skip a part that was read before (`content.skip_bytes`)."""
    is_pair: bool = False
    """Whether a record is in two files, `content` and `content.partner`; such a source has the setting `parallel`."""


_READERS = "tasks.ingest.readers"
FORMATS: PluginTable[FileFormat] = PluginTable(
    "file format",
    {
        "jsonl": FileFormat(f"{_READERS}.jsonl:read_jsonl", (".jsonl", ".ndjson"), is_line_based=True, resumes=True),
        "json": FileFormat(f"{_READERS}.json_document:read_json_document", (".json",)),
        "csv": FileFormat(f"{_READERS}.csv:read_csv", (".csv", ".tsv"), is_line_based=True),
        "parquet": FileFormat(f"{_READERS}.arrow_rows:read_parquet", (".parquet", ".pq")),
        "conll": FileFormat(
            f"{_READERS}.text_conll_parallel:read_conll", (".conll", ".bio", ".iob"), is_line_based=True
        ),
        "text": FileFormat(f"{_READERS}.text_conll_parallel:read_text", (".txt",), is_line_based=True),
        "parallel": FileFormat(f"{_READERS}.text_conll_parallel:read_parallel", is_pair=True),
        "semeval": FileFormat(f"{_READERS}.text_conll_parallel:read_semeval", is_line_based=True),
    },
    stages=(),  # the stages read batches, not sources
)
