"""Files behind a URL: listed by etag, size and time without a download, and read by the same readers."""

from __future__ import annotations

import base64
import gzip
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.ingesting import ingest, raw_rows, records, settings
from support.toy_rows import topic_records

from tasks.ingest.changes.scan import anything_new

MEMORY = {"name": "news", "path": "memory://inbox/*.jsonl", "shape": "text_label", "family": "topic"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def lines(count: int, start: int = 0) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in topic_records(count, start=start)).encode()


def test_objects_are_read_once_and_anew_when_they_change(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    get_file = type(memory).get_file
    monkeypatch.setattr(
        type(memory), "get_file", lambda self, name, to: (fetched.append(name), get_file(self, name, to))
    )
    memory.pipe("/inbox/a.jsonl", lines(3))
    memory.pipe("/inbox/b.jsonl", lines(2, start=3))
    memory.pipe("/inbox/notes.txt", b"other")
    assert [batch.rows for batch in ingest(MEMORY).new] == [3, 2]
    assert {row["file"] for row in raw_rows("news")} == {"memory:///inbox/a.jsonl", "memory:///inbox/b.jsonl"}
    fetched.clear()
    assert not anything_new(settings(MEMORY))
    assert not ingest(MEMORY).new
    assert fetched == []
    memory.pipe("/inbox/b.jsonl", lines(4, start=3))
    assert anything_new(settings(MEMORY))
    assert [batch.rows for batch in ingest(MEMORY).new] == [2]
    assert fetched == ["/inbox/b.jsonl"]
    assert not list(Path(".strop").glob("fetched-*"))


def test_a_folder_packed_files_and_pairs_behind_a_url(memory: Any) -> None:
    memory.pipe("/deep/x/a.jsonl.gz", gzip.compress(lines(2)))
    memory.pipe("/deep/b.csv", b"text,label\na,b\n")
    memory.pipe("/deep/c.bin", b"?")
    assert ingest(MEMORY | {"path": "memory://deep"}).sources[0].new_rows == 3
    memory.pipe("/pairs/t.en", b"cat\ndog\n")
    memory.pipe("/pairs/t.zh", "猫\n狗\n".encode())
    pairs = {"name": "pairs", "path": "memory://pairs/*.en", "shape": "parallel", "family": "translation"}
    ingest(pairs | {"format": "parallel", "parallel": ["en", "zh"]})
    assert [each["target"] for each in records("pairs")] == ["猫", "狗"]


def test_images_in_the_folder_of_a_remote_file_are_stored_and_no_others(memory: Any) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20
    turns = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "a"}]
    rows = [{"messages": turns, "images": [name]} for name in ("img/1.png", "../secret.png", "img/none.png")]
    memory.pipe("/chats/a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    memory.pipe("/chats/img/1.png", png)
    memory.pipe("/secret.png", png)
    ingest({"name": "chats", "path": "memory://chats/*.jsonl", "shape": "messages", "family": "dialogue"})
    first, second, third = (each["images"][0] for each in records("chats"))
    assert Path(f"data/raw/chats/images/{first['sha256']}.png").read_bytes() == png
    assert "leads out of" in second["fault"]
    assert third["fault"] == "not found"


def test_a_store_that_cannot_be_reached_is_reported_in_one_line(memory: Any) -> None:
    for path, expected in [
        ("memory://nowhere/a.jsonl", "no such file"),
        ("memory://nowhere/*.jsonl", "no such file"),
        ("gs://bucket/a.jsonl", "needs the package gcsfs. pip install gcsfs"),
        ("nonsense://bucket/a.jsonl", "Protocol not known: nonsense"),
    ]:
        (error,) = ingest(MEMORY | {"path": path}).errors
        assert expected in str(error)
        assert anything_new(settings(MEMORY | {"path": path}))
    (error,) = ingest(MEMORY | {"storage_options": {"token": "${NOT_SET_HERE}"}}).errors
    assert "the environment variable NOT_SET_HERE is not set" in str(error)


@pytest.fixture
def locked() -> Iterator[str]:
    """The address of a server that hands a file to `reader`, whose password is `hunter2`; `/broken` breaks off."""
    expected = "Basic " + base64.b64encode(b"reader:hunter2").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_let_in = self.headers["Authorization"] == expected
            self.send_response((500 if "broken" in self.path else 200) if is_let_in else 401)
            self.send_header("content-length", str(len(lines(2))))
            self.end_headers()
            if is_let_in and self.command == "GET":
                self.wfile.write(lines(2))

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_password_in_an_address_is_neither_stored_nor_printed(locked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http with it")
    monkeypatch.setenv("OUR_PASSWORD", "hunter2")
    source = MEMORY | {"path": f"http://reader:${{OUR_PASSWORD}}@{locked}/a.jsonl"}
    result = ingest(source)
    assert not result.errors
    assert {row["file"] for row in raw_rows("news")} == {source["path"]}
    for path in (
        f"http://reader:${{OUR_PASSWORD}}@{locked}/broken.jsonl",
        f"http://other:${{OUR_PASSWORD}}@{locked}/a",
    ):
        message = " ".join(str(error) for error in ingest(source | {"path": path, "name": "two"}).errors)
        assert "cannot be reached" in message or "no such file" in message
        assert "hunter2" not in message
    kept = [path.read_bytes() for path in (*Path("data").rglob("*"), *Path(".strop").rglob("*")) if path.is_file()]
    assert not any(b"hunter2" in content for content in kept)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server on a free port of the loopback."""
    pytest.importorskip("s3fs", reason="s3fs is an extra: pip install 'strop[s3]'")
    server_module = pytest.importorskip("moto.server", reason="moto is needed: pip install 'moto[server,s3]'")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_an_s3_bucket_is_listed_by_etag_and_read(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("OUR_S3_KEY", "testing")
    monkeypatch.setenv("OUR_S3_SECRET", "testing")
    options = {"client_kwargs": {"endpoint_url": s3, "region_name": "eu-west-1"}}
    bucket = s3fs.S3FileSystem(key="testing", secret="testing", skip_instance_cache=True, **options)
    bucket.mkdir("collected")
    bucket.pipe("collected/inbox/a.jsonl.gz", gzip.compress(lines(3), mtime=0))
    bucket.pipe("collected/inbox/b.jsonl", lines(2, start=3))
    secret = {"key": "${OUR_S3_KEY}", "secret": "${OUR_S3_SECRET}"}
    source = MEMORY | {"path": "s3://collected/inbox/*", "storage_options": options | secret}
    assert [batch.rows for batch in ingest(source).new] == [3, 2]
    assert not anything_new(settings(source))
    bucket.pipe("collected/inbox/b.jsonl", lines(4, start=3))
    assert anything_new(settings(source))
    assert [batch.rows for batch in ingest(source).new] == [2]
    bucket.pipe("collected/inbox/c.jsonl", lines(1, start=30))
    assert [batch.rows for batch in ingest(source).new] == [1]
    assert {row["file"] for row in raw_rows("news")} == {
        f"s3://collected/inbox/{n}" for n in ("a.jsonl.gz", "b.jsonl", "c.jsonl")
    }
    (error,) = ingest(source | {"path": "s3://no-such-bucket/*"}).errors
    assert "testing" not in str(error)
    assert not os.path.exists("s3:")
