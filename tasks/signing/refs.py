"""Signatures in git: each is a commit of its files at refs/strop/signatures/MODEL/SUBJECT/KEY.

    store_signature("tiny", signature)
    signatures = read_signatures("tiny", {commit_of_an_entry, digest_of_a_receipt}, objects)

Nothing is merged: two machines that sign at once write different refs. A signature that is made again has the former as its parent.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tasks.vcs import git
from tasks.vcs.git_objects import ObjectDamaged, Objects

BUNDLE = "model.sig"
STATEMENT = "statement.json"
KEY_CHARACTERS = 16


@dataclass(frozen=True)
class Signature:
    subject: str
    """The commit of a ledger entry, or the digest of a receipt."""
    ref: str
    files: dict[str, bytes]
    """With `model.sig`, the signature over the others. Empty if git cannot read them."""


def refs_prefix(model: str) -> str:
    return f"refs/strop/signatures/{model}"


def signature_ref(model: str, subject: str, fingerprint: str) -> str:
    return f"{refs_prefix(model)}/{subject}/{fingerprint[:KEY_CHARACTERS]}"


def is_signature_ref(model: str, ref: str) -> bool:
    """Whether a ref has the name of a signature. git could not store another one, below or above it, beside it."""
    name = ref.removeprefix(f"{refs_prefix(model)}/")
    return name != ref and re.fullmatch(rf"[0-9a-f]+/[0-9a-f]{{{KEY_CHARACTERS}}}", name) is not None


def subject_of(ref: str) -> str:
    """The subject of the signature at a ref."""
    return ref.split("/")[-2]


def has_signatures(model: str) -> bool:
    """Whether anything of a model is signed."""
    return bool(git.refs_below(refs_prefix(model)))


def store_signature(signature: Signature, subject_line: str) -> None:
    """Writes a signature and points its ref at it."""
    lines = []
    for name, content in sorted(signature.files.items()):
        text = content.decode("utf-8", "surrogateescape")
        blob = git.run("hash-object", "-w", "--stdin", "--no-filters", stdin=text).strip()
        lines.append(f"100644 blob {blob}\t{name}\n")
    tree = git.run("mktree", stdin="".join(lines)).strip()
    commit = git.make_commit(tree, f"{subject_line}\n", parent=git.resolve(signature.ref))
    git.run("update-ref", signature.ref, commit)


def read_signatures(model: str, subjects: Collection[str], objects: Objects) -> dict[str, list[Signature]]:
    """Subject → its signatures, none of them verified. One that git cannot read has no files."""
    signatures: dict[str, list[Signature]] = {subject: [] for subject in subjects}
    for ref, oid in git.refs_below(refs_prefix(model)).items():
        if (subject := subject_of(ref)) not in signatures:
            continue
        try:
            tree = objects.commit(oid).tree
            files = {name: objects.read(file.oid, "blob").data for name, file in objects.files(tree)}
        except ObjectDamaged:
            files = {}
        signatures[subject].append(Signature(subject, ref, files))
    return signatures
