"""The links of the chain from a version back to its rows: each recomputes something, and says ok or names what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tasks import git, outputs, paths
from tasks.audit.files import checked_md5, is_batch, told_of_erasures, wrong_tree
from tasks.base.resolve import BaseRecord, verify_base
from tasks.errors import BaseModelError, StropError
from tasks.files import content_digest, file_digest
from tasks.ledger import judged, read_ledger
from tasks.outputs import StoredFile
from tasks.wording import count_of

if TYPE_CHECKING:
    from tasks.tracking.registry import Registry
    from tasks.tracking.versions import Version


@dataclass(frozen=True)
class Link:
    name: str
    ok: bool
    detail: str
    """What was verified, or what differs, by file."""


@dataclass(frozen=True)
class Subject:
    """A version under audit."""

    model: str
    version: Version
    registry: Registry
    commit: str
    receipt: dict[str, Any]


def check_receipt(subject: Subject) -> Link:
    """The receipt in git is the one that the registry and the ledger name."""
    found = content_digest(subject.receipt)
    named = {"the registry": subject.version.tags.get("strop.receipt")}
    entry = judged(read_ledger(subject.model), subject.version.version)
    named["the ledger"] = entry.receipt if entry else None
    wrong = [f"{who} names {(digest or 'none')[:12]}" for who, digest in named.items() if digest != found]
    if wrong:
        return Link(
            "receipt", False, f"{paths.RECEIPT} in {subject.commit[:12]} is {found[:12]}, but {'; '.join(wrong)}"
        )
    return Link("receipt", True, f"{found[:12]}, the same in git, registry and ledger")


def check_commit(subject: Subject) -> Link:
    """The registry names the commit that the tag points at."""
    named = subject.version.tags.get("strop.commit")
    if named != subject.commit:
        return Link(
            "commit", False, f"the tag points at {subject.commit[:12]}, the registry names {(named or 'none')[:12]}"
        )
    parent = git.resolve(f"{subject.commit}^") or "none"
    if parent != subject.receipt["commit"]:
        return Link(
            "commit",
            False,
            f"made beside {parent[:12]}, but the receipt says {subject.receipt['commit'][:12]}",
        )
    return Link("commit", True, f"{subject.commit[:12]}, beside {parent[:12]}")


def check_raw(subject: Subject) -> Link:
    """Every raw batch is byte for byte what the manifest says, and its name is the digest of its records."""
    batches = subject.receipt["manifest"]
    stored = {file.relpath: file for file in _stored(subject, paths.RAW)}
    wrong = []
    for batch in batches:
        name = f"{batch['source']}/{batch['batch']}.parquet"
        places = [paths.RAW / name] if (paths.RAW / name).exists() else []
        erasure = None
        if name in stored:
            places.append(stored[name].path)
            erasure = stored[name].erasure
        else:
            wrong.append(f"{paths.RAW / name} is not in the version")
        damaged = [place for place in places if not is_batch(place, batch, erasure)]
        if damaged:
            where = "" if damaged == [paths.RAW / name] else f" (in DVC's cache: {damaged[-1]})"
            wrong.append(f"{paths.RAW / name} has changed{where}")
    wrong += wrong_tree(
        list(stored.values()),
        subject.receipt["raw"],
        paths.RAW,
        but={f"{b['source']}/{b['batch']}.parquet" for b in batches},
    )
    rows = sum(batch["rows"] for batch in batches)
    held = f"{count_of(len(batches), 'batch', 'batches')}, {count_of(rows, 'row')}"
    return _link("raw batches", wrong, held + told_of_erasures(stored.values()))


def check_dataset(subject: Subject) -> Link:
    """The dataset version is recomputed from the bytes of its parts."""
    recorded = subject.receipt["dataset"]
    files = _stored(subject, paths.CURATED)
    wrong = wrong_tree(files, recorded, paths.CURATED)
    if (tag := subject.version.tags.get("strop.dataset")) != recorded:
        wrong.append(f"the registry names {tag}")
    return _link("dataset", wrong, f"{recorded}{told_of_erasures(files)}")


def check_params(subject: Subject) -> Link:
    """params.yaml in the version says what the receipt says."""
    from tasks.config import load_config

    content = git.read_at(subject.commit, paths.PARAMS)
    if content is None:
        return Link("parameters", False, f"{paths.PARAMS} is not in {subject.commit[:12]}")
    with TemporaryDirectory(prefix="strop-audit-") as folder:
        copy = Path(folder) / paths.PARAMS.name
        copy.write_bytes(content)
        found = _flat(load_config(copy).model_dump(mode="json", by_alias=True))
    recorded = _flat(subject.receipt["params"])
    wrong = [key for key in sorted({*found, *recorded}) if found.get(key) != recorded.get(key)]
    return _link("parameters", [f"{key} differs" for key in wrong], f"{len(recorded)} values")


def check_inputs(subject: Subject) -> Link:
    """dvc.lock, the round, its start and the decisions in the version are those of the receipt."""
    receipt, wrong = subject.receipt, []
    lock = git.read_at(subject.commit, paths.DVC_LOCK)
    if lock is None or hashlib.sha256(lock).hexdigest() != receipt["dvc_lock"]:
        wrong.append(f"{paths.DVC_LOCK} differs")
    for path, name in ((paths.ROUND, "round"), (paths.START, "start")):
        content = git.read_at(subject.commit, path)
        if content is None or json.loads(content) != receipt.get(name):
            wrong.append(f"{path} differs")
    decisions = (git.read_at(subject.commit, paths.DECISIONS) or b"").decode("utf-8")
    if [json.loads(line) for line in decisions.split("\n") if line.strip()] != receipt["decisions"]:
        wrong.append(f"{paths.DECISIONS} differs")
    return _link("inputs", wrong, "dvc.lock, round, start and decisions")


def check_base(subject: Subject) -> Link:
    """The base model on this disk is the one that was fine-tuned."""
    recorded = {key: value for key, value in subject.receipt["base"].items() if key != "digest"}
    record = BaseRecord(**recorded)
    if record.digest != subject.receipt["base"]["digest"]:
        return Link("base", False, "the receipt's digest of the base is not that of its files")
    try:
        verify_base(record)
    except BaseModelError as error:
        return Link("base", False, error.what)
    return Link("base", True, f"{record.id}, {count_of(len(record.files), 'file')}")


def check_weights(subject: Subject) -> Link:
    """The weights in the registry and in DVC are those of the receipt."""
    recorded, wrong = subject.receipt["weights"], []
    stored = [file for file in _stored(subject, paths.MODEL) if file.relpath.endswith(".safetensors")]
    if (
        content_digest([[file.relpath, file_digest(file.path)] for file in sorted(stored, key=lambda f: f.relpath)])
        != recorded
    ):
        damaged = [file for file in stored if checked_md5(file.path) != file.md5] or stored
        wrong += [f"{paths.MODEL / file.relpath} in DVC's cache has changed ({file.path})" for file in damaged]
    expected = {file.relpath: file.md5 for file in stored}
    with TemporaryDirectory(prefix="strop-audit-") as folder:
        files = subject.registry.weight_files(subject.version.source, Path(folder))
        if content_digest([[f.name, file_digest(f)] for f in sorted(files, key=lambda f: f.name)]) != recorded:
            damaged_files = [file for file in files if checked_md5(file) != expected.get(file.name)]
            wrong += [f"{file.name} in the registry has changed ({file})" for file in damaged_files or files]
            wrong += [] if files else ["the registry has no weights"]
    return _link("weights", wrong, f"{recorded[:12]}, the same in registry and DVC")


def check_verdict(subject: Subject) -> Link:
    """The verdict that DVC keeps is the receipt's and the ledger's, and is about these weights."""
    recorded, wrong = subject.receipt["verdict"], []
    stored = _stored(subject, paths.VERDICT)[0]
    if checked_md5(stored.path) != stored.md5 or json.loads(stored.path.read_bytes()) != recorded:
        wrong.append(f"{paths.VERDICT} in DVC's cache has changed ({stored.path})")
    entry = judged(read_ledger(subject.model), subject.version.version)
    if entry is None or (entry.verdict, entry.passed) != (content_digest(recorded), recorded["passed"]):
        wrong.append("the ledger tells of another verdict")
    if recorded["candidate_digest"] != subject.receipt["weights"]:
        wrong.append("it is about other weights")
    return _link("verdict", wrong, "passed" if recorded["passed"] else "refused")


LINKS = (
    check_receipt,
    check_commit,
    check_raw,
    check_dataset,
    check_params,
    check_inputs,
    check_base,
    check_weights,
    check_verdict,
)


def check_all(subject: Subject) -> Iterator[Link]:
    """Every link, in the order of the chain. What cannot be read is a broken link, not the end of the audit."""
    for check in LINKS:
        name = check.__name__.removeprefix("check_")
        try:
            yield check(subject)
        except (StropError, OSError) as error:
            yield Link(name, False, str(error))
        except (KeyError, ValueError, TypeError) as error:
            yield Link(name, False, f"cannot be read ({type(error).__name__}: {error})")


def _stored(subject: Subject, path: Path) -> list[StoredFile]:
    return outputs.stored_files(subject.commit, path)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            key: v for k, inner in value.items() for key, v in _flat(inner, f"{prefix}.{k}" if prefix else k).items()
        }
    return {prefix: value}


def _link(name: str, wrong: list[str], good: str) -> Link:
    return Link(name, not wrong, "; ".join(wrong) if wrong else good)
