"""Source kinds and file formats are tables: params.yaml accepts their names, and a plugin may add to them (docs/extend.md)."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.extendpage import code_of
from support.ingesting import records
from support.project import params, write_params

from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.errors import ConfigError
from tasks.ingest import stage
from tasks.ingest.connectors.connector import Connector
from tasks.ingest.connectors.table import CONNECTORS, SourceKind
from tasks.ingest.readers.formats import FORMATS
from tasks.ingest.settings import Source
from tasks.ingest.sources import ingest_sources
from tasks.runtime.plugins import unload_plugins

MAILBOX, FASTA = code_of("A source kind"), code_of("A file format")
MAILS = {"name": "mails", "kind": "mailbox", "path": "mails", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    unload_plugins()


def load(code: str, *sources: dict[str, Any], base: Path | str = "x") -> PipelineConfig:
    """The settings of a project in the working folder with a plugin."""
    Path("my_package").mkdir()
    Path("my_package/strop.py").write_text(code, encoding="utf-8")
    write_params(Path(), {**params(base, list(sources)), "plugins": ["my_package.strop"]})
    return load_config()


def new_rows(config: PipelineConfig) -> list[int]:
    """Ingests; the rows of the new batches."""
    result = ingest_sources(config.ingest)
    result.raise_errors()
    return [batch.rows for batch in result.new]


def write_mail(name: str, subject: str, text: str) -> None:
    Path("mails").mkdir(exist_ok=True)
    Path(f"mails/{name}.mail").write_text(f"{subject}\n\n{text}")


def source(**settings: Any) -> Source:
    return Source.model_validate_json(json.dumps(settings))


def test_a_kind_of_a_plugin_is_ingested_once() -> None:
    write_mail("1", "sport", "We won.")
    write_mail("2", "spam", "Buy now.")
    config = load(MAILBOX, MAILS | {"options": {"ignore": ["spam"]}})
    assert new_rows(config) == [1]
    assert records("mails") == [{"text": "We won.", "label": "sport"}]
    assert new_rows(config) == []
    write_mail("3", "science", "We found water.")
    assert new_rows(config) == [1]
    assert [record["label"] for record in records("mails")] == ["sport", "science"]
    assert new_rows(config) == []


def test_a_kind_of_a_plugin_is_collected_by_the_whole_stage(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    write_mail("1", "sport", "We won.")
    config = load(MAILBOX, MAILS, base=tiny_gpt2)
    stage.collect(config)
    assert "ingest: mails: 1 new rows in 1 batch (1 rows in total)" in capsys.readouterr().err
    stored = paths.RAW_DVC.read_bytes()
    stage.collect(config)
    assert "ingest: mails: nothing new (1 rows in total)" in capsys.readouterr().err
    assert paths.RAW_DVC.read_bytes() == stored


def test_a_format_of_a_plugin_is_recognised_by_its_ending() -> None:
    Path("inbox").mkdir()
    Path("inbox/a.fasta").write_text(">gene\nACGT\nAC\n>other\nTT\n")
    config = load(FASTA, {"name": "genes", "path": "inbox/*", "shape": "text_label", "family": "topic"})
    assert new_rows(config) == [2]
    assert records("genes")[0] == {"text": "ACGTAC", "label": "gene"}
    assert new_rows(config) == []


def test_the_options_of_a_kind_are_checked_by_its_model() -> None:
    load(MAILBOX)
    with pytest.raises(ValueError, match=r"options\.ingore: Extra inputs are not permitted"):
        source(**MAILS, options={"ingore": ["spam"]})
    with pytest.raises(ValueError, match="kind `mailbox` has no `url`; it has options, path"):
        source(**MAILS, url="sqlite:///x")
    with pytest.raises(ValueError, match="is a secret"):
        source(**MAILS, options={"password": "hunter2"})
    with pytest.raises(ValueError, match="kind `files` has no `options`"):
        source(**MAILS | {"kind": "files"}, options={"ignore": []})


def test_a_kind_without_a_module_of_that_name_is_unknown() -> None:
    with pytest.raises(ValueError, match="should be 'files', 'hub', 'sql', 'traces' or 'served'"):
        source(**MAILS)


def test_params_yaml_names_the_nearest_kind_and_format(tmp_path: Path) -> None:
    wrong = {"name": "a", "kind": "file", "path": "a", "shape": "text", "family": "text", "format": "jsonlines"}
    write_params(tmp_path, params("x", [wrong]))
    with pytest.raises(ConfigError) as raised:
        load_config(tmp_path / "params.yaml")
    kinds = "'files', 'hub', 'sql', 'traces' or 'served'; did you mean `files`?"
    formats = (
        "'auto', 'jsonl', 'json', 'csv', 'parquet', 'conll', 'text', 'parallel' or 'semeval'; did you mean `jsonl`?"
    )
    assert f'`ingest.sources.0.kind` is "file", but should be {kinds}' in str(raised.value)
    assert f'`ingest.sources.0.format` is "jsonlines", but should be {formats}' in str(raised.value)


def test_the_json_schema_lists_the_names_of_the_tables() -> None:
    load(MAILBOX)
    fields = PipelineConfig.model_json_schema()["$defs"]["Source"]["properties"]
    assert fields["kind"]["enum"] == ["files", "hub", "sql", "traces", "served", "mailbox"]
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
