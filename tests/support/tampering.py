"""Changes to a registered toy version, each undone at the end, and the links that an audit then reports."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.toyworld import git as user
from tasks.audit import links
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.model_store.ledger import ledger_ref
from tasks.model_store.ledger_chain import LAST_HEADS, save_head
from tasks.model_store.versions import commit_of
from tasks.tracking.registry import open_registry
from tasks.vcs import dvc_outputs

REF = ledger_ref("tiny")


def broken(version: int = 1, *only: str, deep: bool = True) -> dict[str, str]:
    """What differs, by link; of some links, where only these are of interest."""
    with pytest.MonkeyPatch.context() as patch:
        if only:
            patch.setattr(links, "LINKS", {name: links.LINKS[name] for name in only})
        return {link.name: link.detail for link in audit(load_config(), version, deep=deep) if not link.ok}


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Other bytes in a file's place, or none: its hard links elsewhere stay as they are."""
    kept = Path(".strop/kept").absolute()
    existed = path.exists()
    if existed:
        os.replace(path, kept)
    try:
        if content is not None:
            path.write_bytes(content)
        yield
    finally:
        path.unlink(missing_ok=True)
        if existed:
            os.replace(kept, path)


def changed(path: Path) -> bytes:
    """A file's bytes with one value changed: still JSON, where it is JSON."""
    content = path.read_bytes()
    if path.name == "adapter_config.json":
        config = json.loads(content)
        config["lora_alpha"] *= 10
        return json.dumps(config).encode()
    if path.suffix in (".safetensors", ".parquet"):
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return content + b"\n"


def in_registry(name: str) -> Path:
    registry = open_registry(load_config())
    return registry.model_files(registry.version(1).source, Path("scratch"))[name]


def in_dvc(output: Path, name: str = "") -> Path:
    commit = commit_of("tiny", 1)
    assert commit is not None
    return next(file.path for file in dvc_outputs.stored_files(commit, output) if file.relpath == name)


def other_content(name: str, content: str) -> str:
    edits = {
        "params.yaml": ('"seed": 1', '"seed": 7'),
        "dvc.lock": ("size: 1\n", "size: 3\n"),
        "dvc.yaml": ("python toy.py finetune", "python toy.py gate"),
        "data/round.json": ('"looks": 0', '"looks": 1'),
        "data/start.json": ("answers", "texts"),
        "data/base.json": ('"kind": "folder"', '"kind": "hub"'),
        "data/reports/receipt.json": ('"looks": 0', '"looks": 1'),
        "data/reports/logged.json": ('"peft/adapter_config.json": "', '"peft/adapter_config.json": "0'),
        "data/decisions.jsonl": ("", '{"what": "forget"}\n'),
        "verdicts.json": ("{}", '{"1": true}'),
    }
    before, after = edits.get(name, ("", "# changed\n"))
    assert before in content
    return content.replace(before, after, 1)


@contextmanager
def forged_tag(name: str) -> Iterator[None]:
    """The tag of version 1 at a commit whose file is another; everything else is as it was, its message too."""
    commit = user("rev-parse", "tiny@v1").strip()
    content = other_content(name, user("show", f"{commit}:{name}"))
    index = {**os.environ, "GIT_INDEX_FILE": str(Path("forged-index").resolve())}

    def git(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(["git", *arguments], input=stdin, env=index, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("read-tree", commit)
    blob = git("hash-object", "-w", "--stdin", stdin=content)
    git("update-index", "--cacheinfo", f"100644,{blob},{name}")
    message = git("log", "-1", "--format=%B", commit)
    forged = git("commit-tree", git("write-tree"), "-p", f"{commit}^", "-F", "-", stdin=message)
    user("tag", "-f", "tiny@v1", forged)
    try:
        yield
    finally:
        user("tag", "-f", "tiny@v1", commit)
        Path("forged-index").unlink()


@contextmanager
def edited_registry(*statements: tuple[str, tuple[Any, ...]]) -> Iterator[None]:
    database = Path("mlflow/mlflow.db")
    with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(":memory:")) as kept:
        live.backup(kept)
        with live:
            for statement, values in statements:
                assert live.execute(statement, values).rowcount, statement
        try:
            yield
        finally:
            kept.backup(live)


Change = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def entries() -> list[dict[str, Any]]:
    messages = user("log", "--reverse", "--format=%B%x00", REF)
    return [json.loads(part.split("\n\n", 1)[1]) for part in messages.split("\0")[:-1]]


@contextmanager
def rewritten(change: Change) -> Iterator[None]:
    """Another chain of entries in the ledger's place, made as Strop makes it, that begins as the real one does up to the first
    entry that is other. This clone's own note is gone."""
    head = user("rev-parse", REF).strip()
    parent: list[str] = []
    before, commits = entries(), user("rev-list", "--reverse", REF).split()
    is_same = True
    tree = subprocess.run(["git", "mktree"], input="", capture_output=True, text=True, check=True).stdout.strip()
    for number, entry in enumerate(change(before)):
        is_same = is_same and before[number : number + 1] == [entry]
        if is_same:
            parent = ["-p", commits[number]]
            continue
        text = json.dumps(entry, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        message = f"{entry['kind']} tiny v{entry['version']}\n\n{text}\n"
        parent = ["-p", user("commit-tree", tree, *parent, "-m", message.rstrip("\n")).strip()]
    user("update-ref", REF, parent[1])
    LAST_HEADS.unlink(missing_ok=True)
    try:
        yield
    finally:
        user("update-ref", REF, head)
        LAST_HEADS.unlink(missing_ok=True)
        save_head("tiny", head)


def with_field(place: int, **values: Any) -> Change:
    return lambda chain: [{**entry, **(values if number == place else {})} for number, entry in enumerate(chain)]
