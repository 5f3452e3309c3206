"""Reads git objects through one process for any number of them, and verifies the hash of every object.

    with Objects() as objects:
        commit = objects.commit("refs/tags/tiny@v3")
        receipt = objects.find(f"{commit.oid}:data/reports/receipt.json")

git itself verifies hashes only in `git fsck`: it returns a loose object that was rewritten in place.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.errors import GitError
from tasks.vcs import git

BATCH_SIZE = 256
"""Names written before replies are read. Both pipes must have room for them, or the two processes would deadlock."""
LINK = "120000"
"""The mode of a symbolic link in a tree."""


class ObjectDamaged(GitError):
    """An object is missing, cannot be read, or does not match its id."""

    def __init__(self, name: str, what: str = "is missing or damaged") -> None:
        self.name = name
        super().__init__(f"the object {name} {what}", where="git", fix=remedy(name))


@dataclass(frozen=True)
class GitObject:
    oid: str
    kind: str
    """commit, tree, blob or tag."""
    data: bytes


@dataclass(frozen=True)
class Commit:
    oid: str
    tree: str
    parents: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class TreeFile:
    mode: str
    oid: str


class Objects:
    """A context manager that reads objects; its process starts with the first read."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._prefetched: dict[str, GitObject] = {}

    def __enter__(self) -> Objects:
        return self

    def __exit__(self, *raised: object) -> None:
        self._close()

    def find(self, name: str) -> GitObject | None:
        """The object of a name (an object id, a ref, `commit:path`); None if it does not exist.

        Raises:
            ObjectDamaged: git cannot read it, or its content does not match its id.
        """
        if name in self._prefetched:
            return self._prefetched.pop(name)
        try:
            self._request([name])
        except OSError:
            self._close()
            raise ObjectDamaged(name) from None
        return self._reply(name)

    def read_ahead(self, names: list[str]) -> None:
        """Reads many objects in a few round trips. Objects that cannot be read are left to `find`, which raises."""
        for start in range(0, len(names), BATCH_SIZE):
            batch = names[start : start + BATCH_SIZE]
            try:
                self._request(batch)
                for name in batch:
                    if result := self._reply(name):
                        self._prefetched[name] = result
            except (OSError, ObjectDamaged):
                self._close()
                return

    def _request(self, names: list[str]) -> None:
        process = self._open()
        assert process.stdin is not None
        process.stdin.write("".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
        process.stdin.flush()

    def _reply(self, name: str) -> GitObject | None:
        process = self._open()
        assert process.stdout is not None
        try:
            header = process.stdout.readline().decode("utf-8", "surrogateescape")
        except OSError:
            header = ""
        fields = header.rsplit(" ", 2)
        if header.endswith((" missing\n", " ambiguous\n")):
            return None
        if len(fields) != 3 or not fields[2].strip().isdecimal():  # git exits on a corrupt object
            self._close()
            raise ObjectDamaged(name)
        oid, kind, size = fields[0], fields[1], int(fields[2])
        data = process.stdout.read(size + 1)
        if len(data) != size + 1:
            self._close()
            raise ObjectDamaged(name)
        data = data[:-1]
        if object_id(kind, data, len(oid)) != oid:
            raise ObjectDamaged(oid, "does not match its id")
        return GitObject(oid, kind, data)

    def read(self, name: str, kind: str) -> GitObject:
        """As `find`, for an object that must exist and be of this kind.

        Raises:
            ObjectDamaged: it is missing or of another kind.
        """
        result = self.find(name)
        if result is None or result.kind != kind:
            what = "is missing or damaged" if result is None else f"is not a {kind}, but a {result.kind}"
            raise ObjectDamaged(name, what)
        return result

    def commit(self, name: str) -> Commit:
        """The commit of a name; annotated tags are resolved. Raises ObjectDamaged if it cannot be read."""
        result = self.find(name)
        while result is not None and result.kind == "tag":
            result = self.find(_headers(result.data)[0]["object"][0])
        if result is None or result.kind != "commit":
            raise ObjectDamaged(name)
        headers, message = _headers(result.data)
        return Commit(result.oid, headers["tree"][0], tuple(headers.get("parent", ())), message)

    def files(self, tree: str, prefix: str = "") -> Iterator[tuple[str, TreeFile]]:
        """(path, file) of every file of a tree, without submodules, in git's order. Raises ObjectDamaged."""
        data, at = self.read(tree, "tree").data, 0
        length = len(tree) // 2
        while at < len(data):
            end = data.index(b"\0", at)
            mode, _, name = data[at:end].decode("utf-8", "surrogateescape").partition(" ")
            oid = data[end + 1 : end + 1 + length].hex()
            at = end + 1 + length
            path = str(PurePosixPath(prefix, name))
            if mode == "40000":
                yield from self.files(oid, path)
            elif mode != "160000":
                yield path, TreeFile(mode, oid)

    def _open(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = git.open_objects()
        return self._process

    def _close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            process.wait()


def object_id(kind: str, data: bytes, length: int = 40) -> str:
    """git's id of an object: SHA-1, or SHA-256 if ids have 64 characters."""
    digest = hashlib.sha256 if length == 64 else hashlib.sha1
    return digest(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def remedy(name: str) -> str:
    """How to restore a damaged object. git does not fetch an object if it has its file, or believes that it has it."""
    is_id = len(name) in (40, 64) and all(character in "0123456789abcdef" for character in name)
    remove = f"rm -f .git/objects/{name[:2]}/{name[2:]}; " if is_id else ""
    return f"Fetch it from a remote or a clone: {remove}git fetch --refetch origin --tags 'refs/strop/*:refs/strop/*'"


def _headers(data: bytes) -> tuple[dict[str, list[str]], str]:
    """The headers of a commit or tag (header → values in order), and the message."""
    head, _, message = data.decode("utf-8", "surrogateescape").partition("\n\n")
    headers: dict[str, list[str]] = {}
    for line in head.split("\n"):
        name, _, value = line.partition(" ")
        if name:  # lines of a signature begin with a space
            headers.setdefault(name, []).append(value)
    return headers, message
