"""A project with a secret in every possible location, and a search for them in all written files."""

from __future__ import annotations

import base64
import http.server
import json
import sqlite3
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from support.toy_rows import qa_records, write_jsonl
from support.toyflow import SECRET as SERVER_SECRET
from support.toyflow import make_toy_flow, prefect_api, without_prefect
from support.toyworld import git

SECRETS = {
    "remote": "rem0te-folder-secret",
    "remote_key": "k3y-of-the-remote",
    "proxy": "pr0xy/pass word",
    "database": "d4tabase-secret",
    "signature": "s1gned-url-secret",
    "endpoint": "endp0int-secret",
    "api_key": "sk-api-key-secret",
    "git": "ghp_git_remote_secret",
    "tracking": "tr4cking-secret",
    "hub": "hf_hub-token-secret",
}


def _encodings() -> dict[str, set[bytes]]:
    """A secret as it is, quoted for an address, and as a header of basic authentication carries it."""
    leaks_by_name = {}
    for name, secret in SECRETS.items():
        basic = base64.b64encode(f"me:{secret}".encode())
        leaks_by_name[name] = {secret.encode(), urllib.parse.quote(secret, safe="").encode(), basic}
    return leaks_by_name


def leaks(content: bytes) -> list[str]:
    return [name for name, encodings in _encodings().items() if any(encoding in content for encoding in encodings)]


def searched(*folders: Path) -> dict[str, list[str]]:
    """What leaked, by file: everything below the folders, and git's objects, unpacked; not where the secrets were put."""
    planted = {".dvc/config.local", ".git/config"}
    leaks_by_name: dict[str, list[str]] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if name in planted or not path.is_file() or name.startswith((".git/objects", "adapters/")):
                continue
            content = path.read_bytes() + name.encode()
            if path.suffix == ".parquet":
                content += str(pq.read_table(path).to_pylist()).encode()
            if leaked := leaks(content):
                leaks_by_name[str(path)] = leaked
        if (folder / ".git").is_dir():
            dumped = subprocess.run(
                ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=folder, capture_output=True, check=True
            )
            if leaked := leaks(dumped.stdout):
                leaks_by_name["git"] = leaked
    return leaks_by_name


@pytest.fixture
def web() -> Iterator[Any]:
    """A server with one file of rows, at an address that only a signature opens, while `status` is 200."""
    body = "".join(json.dumps(row) + "\n" for row in qa_records(6, start=200)).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if server.status == 200 and SECRETS["signature"] in self.path:  # type: ignore[attr-defined]
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)
            else:
                self.send_error(500 if server.status == 200 else server.status)  # type: ignore[attr-defined]

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status = 200  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def planted(tmp_path: Path, web: Any) -> tuple[Path, dict[str, str]]:
    """A project with a secret in every possible location, and its environment."""
    root = make_toy_flow(tmp_path / "project")
    (root / ".dvc/config.local").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = ../../{SECRETS['remote']}/deep\n"
        f"['remote \"other\"']\n    url = s3://bucket/x\n    secret_access_key = {SECRETS['remote_key']}\n"
    )
    git("remote", "add", "origin", f"https://bot:{SECRETS['git']}@example.invalid/x.git", cwd=root)
    with sqlite3.connect(root / "inbox/rows.db") as database:
        database.execute("CREATE TABLE rows (instruction TEXT, input TEXT, output TEXT)")
        database.executemany("INSERT INTO rows VALUES (:instruction, :input, :output)", qa_records(6, start=100))
    database.close()
    settings = json.loads((root / "params.yaml").read_text())
    base = {"shape": "alpaca", "family": "qa"}
    address = f"http://127.0.0.1:{web.server_port}/rows.jsonl?sig=${{SIGNATURE}}"
    settings["ingest"]["sources"] += [
        {"name": "web", "path": address, "format": "jsonl", **base},
        {"name": "db", "kind": "sql", "table": "rows", **base,
         "url": f"sqlite:///file:{root}/inbox/rows.db?mode=ro&password=${{DB_PASSWORD}}&uri=true"},
    ]  # fmt: skip
    generator = {
        "model": "m",
        "base_url": "http://me:${ENDPOINT}@127.0.0.1:9/v1",
        "api_key_env": "THE_KEY",
        "attempts": 1,
    }
    recipe = {"name": "faq", "kind": "self_instruct", "rows": 2, "seeds": "seeds.jsonl", "generator": generator}
    settings["build"] = {"recipes": [recipe]}
    seeds = [
        {"instruction": f"Name a city of letter {n}.", "instances": [{"input": "", "output": f"City {n}"}]}
        for n in range(20)
    ]
    write_jsonl(root / "seeds.jsonl", seeds)
    (root / "params.yaml").write_text(json.dumps(settings))
    proxy = f"http://me:{urllib.parse.quote(SECRETS['proxy'], safe='')}@127.0.0.1:9"
    environment = without_prefect(
        PREFECT_API_URL=prefect_api(), PREFECT_API_AUTH_STRING=SERVER_SECRET,
        HTTP_PROXY=proxy, https_proxy=proxy, NO_PROXY="127.0.0.1,localhost",
        DB_PASSWORD=SECRETS["database"], SIGNATURE=SECRETS["signature"], ENDPOINT=SECRETS["endpoint"],
        THE_KEY=SECRETS["api_key"], MLFLOW_TRACKING_PASSWORD=SECRETS["tracking"], HF_TOKEN=SECRETS["hub"],
    )  # fmt: skip
    return root, environment
