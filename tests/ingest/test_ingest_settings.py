"""Errors in the declaration of a source are reported before anything is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from support.project import params, write_params

from tasks.config import load_config
from tasks.errors import ConfigError
from tasks.ingest.fields import FIELDS, REQUIRED_FIELDS
from tasks.ingest.settings import Shape, Source
from tasks.records.shapes import SHAPES

NEWS = {"name": "news", "path": "a.csv", "shape": "text_label", "family": "topic"}
BARE = {"name": "news", "shape": "text_label", "family": "topic"}
TRACES = BARE | {"kind": "traces", "shape": "messages", "tracking_uri": "x", "experiment": "y"}


def source(declared: dict[str, Any]) -> Source:
    return Source.model_validate_json(json.dumps(declared))


def test_an_encoding_that_does_not_exist_is_refused() -> None:
    for encoding in ("utf8mb4", "base64", ""):
        with pytest.raises(ValidationError, match="is not a text encoding; use utf-8, gb18030"):
            source(NEWS | {"encoding": encoding})


def test_a_mapped_field_that_the_shape_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="shape `text_label` has no field body; it has text, label, id"):
        source(NEWS | {"columns": {"body": "text"}})


def test_every_shape_has_fields_required_fields_and_a_conversion_to_rows() -> None:
    assert FIELDS.keys() == REQUIRED_FIELDS.keys() == set(get_args(Shape)) == SHAPES.keys()
    assert all(set(needed) <= set(FIELDS[shape]) for shape, needed in REQUIRED_FIELDS.items())


def test_a_source_of_old_is_a_source_of_files_to_train_on() -> None:
    assert (source(NEWS).kind, source(NEWS).use) == ("files", "train")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (BARE, "kind `files` needs `path`"),
        (NEWS | {"url": "sqlite:///x"}, "kind `files` has no `url`; it has encoding, "),
        (NEWS | {"kind": "sql", "url": "sqlite:///x", "table": "t"}, "kind `sql` has no `path`"),
        (BARE | {"kind": "sql", "table": "t"}, "kind `sql` needs `url`"),
        (BARE | {"kind": "sql", "url": "sqlite:///x"}, "kind `sql` needs either `table` or `query`"),
        (BARE | {"kind": "sql", "url": "sqlite:///x", "table": "t", "query": "q"}, "needs either `table` or `query`"),
        (BARE | {"kind": "hub"}, "kind `hub` needs `path`"),
        (TRACES, "needs `rating`, `answer` or both"),
        (TRACES | {"rating": "r", "shape": "alpaca"}, "kind `traces` returns records of shape `messages`"),
        (NEWS | {"format": "parallel"}, "`format: parallel` and `parallel: .* need each other"),
        (NEWS | {"parallel": ["en", "de"]}, "need each other"),
        (NEWS | {"parallel": ["en"]}, "parallel"),
        (BARE | {"kind": "sql", "url": "postgresql://me:hunter2@db/x", "table": "t"}, "the password is a secret"),
        (
            NEWS | {"storage_options": {"secret": "hunter2"}},
            "`secret` is a secret; put it into an environment variable",
        ),
        (NEWS | {"storage_options": {"client_kwargs": {"aws_secret_access_key": "hunter2"}}}, "is a secret"),
        (NEWS | {"use": "test"}, "'train', 'golden' or 'benchmark'"),
    ],
)
def test_settings_that_do_not_fit_the_kind_are_errors(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        source(declared)
    assert "hunter2" not in "".join(error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize(
    "declared",
    [
        NEWS | {"path": "https://me:hunter2@host/a.jsonl"},
        NEWS | {"path": "https://hunter2@host/a.jsonl"},
        NEWS | {"path": "https://host/a.jsonl?token=hunter2"},
        NEWS | {"path": "https://host/a.jsonl?page=1&X-Amz-Signature=hunter2"},
        NEWS | {"path": "az://box/a.jsonl?sv=1&sig=hunter2"},
        NEWS | {"path": "s3://b/a.jsonl", "image_folder": "https://me:hunter2@host/"},
        BARE | {"kind": "hub", "path": "https://me:hunter2@host/a"},
        BARE | {"kind": "sql", "url": "postgresql://me@db/x?password=hunter2", "table": "t"},
        BARE | {"kind": "sql", "url": "postgresql://me@db/x?sslpassword=hunter2", "table": "t"},
        BARE | {"kind": "sql", "url": "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2", "table": "t"},
        TRACES | {"rating": "r", "tracking_uri": "http://host?access_token=hunter2"},
    ],
)
def test_a_secret_anywhere_in_an_address_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is a secret; put it into an environment variable") as caught:
        source(declared)
    assert "hunter2" not in "".join(error["msg"] for error in caught.value.errors())


@pytest.mark.parametrize(
    "path",
    [
        "inbox/a@b:c.jsonl", "s3://b/part?.jsonl", "https://${USER}:${PASS}@h/a.jsonl", "https://h/a?token=${TOKEN}",
        "https://h/a.jsonl?page=2&design=new", "in/what?token=1.jsonl", "https://[broken/a.jsonl",
    ],
)  # fmt: skip
def test_an_address_without_one_is_accepted(path: str) -> None:
    assert source(NEWS | {"path": path}).path == path


def test_secrets_by_name_and_options_that_are_none_are_accepted() -> None:
    source(BARE | {"kind": "sql", "url": "postgresql://me:${DB_PASSWORD}@db/x", "table": "t"})
    options = {"key": "${S3_KEY}", "anon": False, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    assert source(NEWS | {"path": "s3://b/*.jsonl", "storage_options": options}).storage_options == options


def test_such_errors_of_params_yaml_have_their_location_and_no_secret(tmp_path: Path) -> None:
    wrong = [
        {**BARE, "kind": "sql", "url": "postgresql://me:hunter2@db/x", "tabel": "t"},
        {**BARE, "name": "two", "kind": "ftp", "path": "x"},
        {**NEWS, "name": "three", "watermark": "id"},
    ]
    write_params(tmp_path, params("x", wrong))
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "params.yaml")
    message = str(caught.value)
    assert "`ingest.sources.0.url`: the password is a secret" in message
    assert "`ingest.sources.0.tabel` is not a setting; did you mean `table`?" in message
    assert "`ingest.sources.1.kind` is \"ftp\", but should be 'files', 'hub', 'sql', 'traces' or 'served'" in message
    assert "`ingest.sources.2`: kind `files` has no `watermark`" in message
    assert "hunter2" not in message
