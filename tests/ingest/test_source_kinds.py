"""Source kinds and file formats are tables: what they have is what params.yaml accepts, and a user's own module may add to them."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import params, write_params
from ingesting import ingest, records

from tasks.config import PipelineConfig, load_config
from tasks.errors import ConfigError
from tasks.ingest.connectors.connector import Connector
from tasks.ingest.connectors.table import CONNECTORS, SourceKind
from tasks.ingest.readers.formats import FORMATS
from tasks.ingest.settings import Source

MAILBOX = '''
"""Mails in a folder, one file each: `Subject`, a blank line, the text."""

import hashlib
from pathlib import Path

from tasks.ingest.connectors.connector import Connector
from tasks.ingest.connectors.listing import ItemState, Listing
from tasks.ingest.connectors.table import CONNECTORS, SourceKind
from tasks.ingest.readers.raw_record import RawRecord
from tasks.runtime.base_settings import Settings


class MailboxOptions(Settings):
    ignore: tuple[str, ...] = ()
    """Subjects of mails that are not collected."""


class Mailbox(Connector):
    def list_items(self):
        mails = [path.read_bytes() for path in sorted(Path(self.source.path).glob("*.mail"))]
        return Listing({self.source.path: ItemState(stamp=hashlib.sha256(b"".join(mails)).hexdigest())})

    def open_item(self, name, before):
        return self.open_records(self.mails(Path(name)))

    def mails(self, folder):
        for number, path in enumerate(sorted(folder.glob("*.mail")), start=1):
            subject, _, text = path.read_text().partition("\\n\\n")
            if subject not in self.source.options.get("ignore", []):
                yield RawRecord(number, {"text": text, "label": subject})


CONNECTORS.add("mailbox", SourceKind("mailbox:Mailbox", requires={"path"}, options=MailboxOptions))
'''
FASTA = '''
"""Records of FASTA files: a line `>label`, then lines of text."""

from tasks.ingest.readers.formats import FORMATS, FileFormat
from tasks.ingest.readers.raw_record import RawRecord


def read_fasta(content, source):
    with content.open() as file:
        blocks = file.read().decode(source.encoding).split(">")[1:]
    for number, block in enumerate(blocks, start=1):
        label, *lines = block.splitlines()
        yield RawRecord(number, {"label": label, "text": "".join(lines)})


FORMATS.add("fasta", FileFormat("fasta:read_fasta", endings=(".fasta",)))
'''
MAILS = {"name": "mails", "kind": "mailbox", "path": "mails", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def project_with_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder on the import path, and tables that forget what the test adds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for table in (CONNECTORS, FORMATS):
        monkeypatch.setattr(table, "_entries", dict(table))
    yield
    for name in ("mailbox", "fasta"):
        sys.modules.pop(name, None)


def import_module(name: str, code: str) -> None:
    Path(f"{name}.py").write_text(code)
    importlib.import_module(name)


def write_mail(name: str, subject: str, text: str) -> None:
    Path("mails").mkdir(exist_ok=True)
    Path(f"mails/{name}.mail").write_text(f"{subject}\n\n{text}")


def source(**settings: Any) -> Source:
    return Source.model_validate_json(json.dumps(settings))


def test_a_kind_of_a_user_s_module_is_ingested_once() -> None:
    import_module("mailbox", MAILBOX)
    write_mail("1", "sport", "We won.")
    write_mail("2", "spam", "Buy now.")
    declared = MAILS | {"options": {"ignore": ["spam"]}}
    assert [batch.rows for batch in ingest(declared).new] == [1]
    assert records("mails") == [{"text": "We won.", "label": "sport"}]
    assert not ingest(declared).new
    write_mail("3", "science", "We found water.")
    assert [batch.rows for batch in ingest(declared).new] == [1]
    assert [record["label"] for record in records("mails")] == ["sport", "science"]
    assert not ingest(declared).new


def test_a_format_of_a_user_s_module_is_recognised_by_its_ending() -> None:
    import_module("fasta", FASTA)
    Path("inbox").mkdir()
    Path("inbox/a.fasta").write_text(">gene\nACGT\nAC\n>other\nTT\n")
    declared = {"name": "genes", "path": "inbox/*", "shape": "text_label", "family": "topic"}
    assert [batch.rows for batch in ingest(declared).new] == [2]
    assert records("genes")[0] == {"text": "ACGTAC", "label": "gene"}
    assert not ingest(declared).new


def test_the_options_of_a_kind_are_checked_by_its_model() -> None:
    import_module("mailbox", MAILBOX)
    with pytest.raises(ValueError, match=r"options\.ingore: Extra inputs are not permitted"):
        source(**MAILS, options={"ingore": ["spam"]})
    with pytest.raises(ValueError, match="kind `mailbox` has no `url`; it has options, path"):
        source(**MAILS, url="sqlite:///x")
    with pytest.raises(ValueError, match="is a secret"):
        source(**MAILS, options={"password": "hunter2"})
    with pytest.raises(ValueError, match="kind `files` has no `options`"):
        source(**MAILS | {"kind": "files"}, options={"ignore": []})


def test_a_kind_without_a_module_of_that_name_is_unknown() -> None:
    with pytest.raises(ValueError, match="should be 'files', 'hub', 'sql' or 'traces'"):
        source(**MAILS)


def test_params_yaml_names_the_nearest_kind_and_format(tmp_path: Path) -> None:
    wrong = {"name": "a", "kind": "file", "path": "a", "shape": "text", "family": "text", "format": "jsonlines"}
    write_params(tmp_path, params("x", [wrong]))
    with pytest.raises(ConfigError) as raised:
        load_config(tmp_path / "params.yaml")
    kinds = "'files', 'hub', 'sql' or 'traces'; did you mean `files`?"
    formats = (
        "'auto', 'jsonl', 'json', 'csv', 'parquet', 'conll', 'text', 'parallel' or 'semeval'; did you mean `jsonl`?"
    )
    assert f'`ingest.sources.0.kind` is "file", but should be {kinds}' in str(raised.value)
    assert f'`ingest.sources.0.format` is "jsonlines", but should be {formats}' in str(raised.value)


def test_the_json_schema_lists_the_names_of_the_tables() -> None:
    import_module("mailbox", MAILBOX)
    fields = PipelineConfig.model_json_schema()["$defs"]["Source"]["properties"]
    assert fields["kind"]["enum"] == ["files", "hub", "sql", "traces", "mailbox"]
    assert fields["format"]["enum"] == ["auto", *FORMATS]


def test_a_name_cannot_be_added_twice() -> None:
    with pytest.raises(ConfigError, match="the source kind `sql` exists already"):
        CONNECTORS.add("sql", SourceKind("mailbox:Mailbox"))


def test_every_entry_leads_to_code_and_to_settings_that_exist() -> None:
    for kind in CONNECTORS.values():
        connector = pkgutil.resolve_name(kind.connector)
        assert not isinstance(connector, type) or issubclass(connector, Connector)
        assert kind.requires | kind.allows <= Source.model_fields.keys()
    assert all(callable(pkgutil.resolve_name(format_.reader)) for format_ in FORMATS.values())
    endings = [ending for format_ in FORMATS.values() for ending in format_.endings]
    assert len(set(endings)) == len(endings)


def test_empty_options_leave_the_settings_as_they_were_before_there_were_options() -> None:
    assert "options" not in source(name="a", path="a", shape="text", family="text").model_dump(mode="json")
