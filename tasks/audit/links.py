"""The links of the chain from a version back to its rows: each recomputes a value and reports ok or the differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks import paths
from tasks.audit.canary import canary_level_problems
from tasks.audit.file_checks import erasure_note, is_intact_batch, tree_problems
from tasks.audit.ledger import check_alias, check_ledger
from tasks.audit.made import check_metrics, check_model_files, check_other_outputs, check_predictions, check_training
from tasks.audit.registered import check_registry_files, check_run
from tasks.audit.report import check_report
from tasks.audit.retired import REMOVED_LINKS, check_removed, is_retired_version
from tasks.audit.served import check_served
from tasks.audit.signatures import check_signatures
from tasks.audit.stages import check_stages
from tasks.audit.subject import Link, Subject, link
from tasks.base.pin import base_of, verify_base
from tasks.errors import BaseModelError, StropError
from tasks.model_store.ledger_entries import Entry
from tasks.runtime.files import content_digest
from tasks.runtime.plugin_files import PRODUCT
from tasks.runtime.plugins import keeping_plugins, loaded_plugins
from tasks.runtime.plurals import count_of
from tasks.state.verdict import outcome_of
from tasks.tracking.run_record import flat
from tasks.tracking.tags import COMMIT_TAG, DATASET_TAG, PROMOTED_TAG, RECEIPT_TAG
from tasks.vcs.git_objects import LINK


def check_receipt(subject: Subject) -> Link:
    """The receipt in git must be the one that the registry and the ledger name."""
    in_git, entry = content_digest(subject.receipt), subject.entry
    digests = {"the registry": subject.version.tags.get(RECEIPT_TAG), "the ledger": entry.receipt if entry else None}
    others = [f"{source} names {(digest or 'none')[:12]}" for source, digest in digests.items() if digest != in_git]
    problem = f"{paths.RECEIPT} in {subject.commit[:12]} is {in_git[:12]}, but {'; '.join(others)}"
    return link("receipt", [problem] if others else [], f"{in_git[:12]}, the same in git, registry and ledger")


def check_commit(subject: Subject) -> Link:
    """The registry must name the commit that the tag points at."""
    commit, registered = subject.commit[:12], subject.version.tags.get(COMMIT_TAG)
    if registered != subject.commit:
        return Link("commit", False, f"the tag points at {commit}, the registry names {(registered or 'none')[:12]}")
    parent, recorded = next(iter(subject.objects.commit(subject.commit).parents), "none"), subject.receipt["commit"]
    problems = [f"its parent is {parent[:12]}, but the receipt has {recorded[:12]}"] if parent != recorded else []
    return link("commit", problems, f"{commit}, parent {parent[:12]}")


def check_raw(subject: Subject) -> Link:
    """Every raw batch must have the bytes of the manifest, and a name that is the digest of its records."""
    batches = subject.receipt["manifest"]
    stored = {file.relpath: file for file in subject.stored(paths.RAW)}
    names = [f"{batch['source']}/{batch['batch']}.parquet" for batch in batches]
    problems = []
    for name, batch in zip(names, batches, strict=True):
        copies = [paths.RAW / name] if (paths.RAW / name).exists() else []
        erasure = None
        if name in stored:
            copies.append(stored[name].path)
            erasure = stored[name].erasure
        else:
            problems.append(f"{paths.RAW / name} is not in the version")
        damaged = [copy for copy in copies if not is_intact_batch(copy, batch, erasure, subject.digests)]
        if damaged:
            where = "" if damaged == [paths.RAW / name] else f" (in DVC's cache: {damaged[-1]})"
            problems.append(f"{paths.RAW / name} has changed{where}")
    problems += tree_problems(list(stored.values()), subject.receipt["raw"], paths.RAW, subject.digests, but=set(names))
    rows = sum(batch["rows"] for batch in batches)
    summary = f"{count_of(len(batches), 'batch', 'batches')}, {count_of(rows, 'row')}"
    return link("raw batches", problems, summary + erasure_note(stored.values()))


def check_dataset(subject: Subject) -> Link:
    """Recomputes the dataset version from the bytes of its parts."""
    recorded = subject.receipt["dataset"]
    files = subject.stored(paths.CURATED)
    problems = tree_problems(files, recorded, paths.CURATED, subject.digests)
    if (tag := subject.version.tags.get(DATASET_TAG)) != recorded:
        problems.append(f"the registry names {tag}")
    return link("dataset", problems, f"{recorded}{erasure_note(files)}")


def check_params(subject: Subject) -> Link:
    """params.yaml in the version must have the values of the receipt."""
    from tasks.config import load_config

    content = subject.blob(paths.PARAMS)
    if content is None:
        return Link("parameters", False, f"{paths.PARAMS} is not in {subject.commit[:12]}")
    with TemporaryDirectory(prefix="strop-audit-") as folder, keeping_plugins():
        copy = Path(folder) / paths.PARAMS.name
        copy.write_bytes(content)
        digests = subject.receipt.get("plugins") or {}
        _copy_plugins(subject, digests, Path(folder))
        config = load_config(copy)
        settings = flat(config.model_dump(mode="json", by_alias=True))
        written = flat(config.model_dump(mode="json", by_alias=True, exclude_unset=True))
        changed = [plugin for plugin in loaded_plugins() if digests.get(plugin.name) != plugin.digest]
    recorded = {"plugins": [], **flat(subject.receipt["params"])}  # receipts of before have no plugins
    later = {key for key in settings if key not in recorded and key not in written}  # defaults of a later release
    problems = [key for key in sorted({*settings, *recorded} - later) if settings.get(key) != recorded.get(key)]
    problems += [f"plugin {plugin.name}" for plugin in changed if plugin.is_local]
    upgraded = "".join(f"; another {plugin.name} is installed now" for plugin in changed if not plugin.is_local)
    newer = f"; {count_of(len(later), 'setting')} of a later release" if later else ""
    return link("parameters", [f"{key} differs" for key in problems], f"{len(recorded)} values{newer}{upgraded}")


def _copy_plugins(subject: Subject, names: Iterable[str], folder: Path) -> None:
    """Writes the version's own modules and the packages of its plugins to a folder."""
    packages = {name.partition(".")[0] for name in names}
    for path, file in subject.tree.items() if packages else ():
        parts = Path(path).parts
        is_module = path.endswith(".py") and parts[0] not in PRODUCT
        if file.mode != LINK and (is_module or packages & {*parts}):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(subject.read(path, file))


def check_inputs(subject: Subject) -> Link:
    """dvc.lock, the round, its start, the base, the constraints and the decisions must be those of the receipt."""
    receipt, problems = subject.receipt, []
    lock = subject.blob(paths.DVC_LOCK)
    if lock is None or hashlib.sha256(lock).hexdigest() != receipt["dvc_lock"]:
        problems.append(f"{paths.DVC_LOCK} differs")
    for path, name in ((paths.ROUND, "round"), (paths.START, "start")):
        content = subject.blob(path)
        if content is None or json.loads(content) != receipt.get(name):
            problems.append(f"{path} differs")
    if json.loads(subject.blob(paths.BASE) or b"null") != base_of(receipt["base"]).entry():
        problems.append(f"{paths.BASE} differs")
    constraints = subject.blob(paths.CONSTRAINTS)
    if (constraints and hashlib.sha256(constraints).hexdigest()) != receipt["environment"]["constraints"]:
        problems.append(f"{paths.CONSTRAINTS} differs")
    decisions = (subject.blob(paths.DECISIONS) or b"").decode("utf-8")
    if [json.loads(line) for line in decisions.split("\n") if line.strip()] != receipt["decisions"]:
        problems.append(f"{paths.DECISIONS} differs")
    return link("inputs", problems, "dvc.lock, round, start, base, constraints and decisions")


def check_base(subject: Subject) -> Link:
    """The base model on this disk must be the one that was fine-tuned."""
    record = base_of(subject.receipt["base"])
    if record.digest != subject.receipt["base"]["digest"]:
        return Link("base", False, "the receipt's digest of the base is not that of its files")
    try:
        verify_base(record, digests_of=subject.digests.sha256_of_files)
    except BaseModelError as error:
        return Link("base", False, f"{error.where}: {error.what}" if error.where else error.what)
    return Link("base", True, f"{record.id}, {count_of(len(record.files), 'file')}")


def check_weights(subject: Subject) -> Link:
    """The weights in the registry and in DVC must be those of the receipt."""
    recorded, problems = subject.receipt["weights"], []
    digest_of, md5_of = subject.digests.sha256, subject.digests.md5
    in_dvc = (file for file in subject.stored(paths.MODEL) if file.relpath.endswith(".safetensors"))
    stored = sorted(in_dvc, key=lambda file: file.relpath)
    if content_digest([[file.relpath, digest_of(file.path)] for file in stored]) != recorded:
        damaged = [file for file in stored if md5_of(file.path) != file.md5] or stored
        problems += [f"{paths.MODEL / file.relpath} in DVC's cache has changed ({file.path})" for file in damaged]
    expected = {file.relpath: file.md5 for file in stored}
    files = [path for name, path in subject.logged_files.items() if name.endswith(".safetensors")]
    if content_digest([[f.name, digest_of(f)] for f in sorted(files, key=lambda f: f.name)]) != recorded:
        damaged_files = [file for file in files if md5_of(file) != expected.get(file.name)]
        problems += [f"{file.name} in the registry has changed ({file})" for file in damaged_files or files]
        problems += [] if files else ["the registry has no weights"]
    return link("weights", problems, f"{recorded[:12]}, the same in registry and DVC")


def check_verdict(subject: Subject) -> Link:
    """The verdict in DVC must be that of the receipt and the ledger, about these weights."""
    recorded, problems = subject.receipt["verdict"], []
    stored = subject.stored(paths.VERDICT)[0]
    if subject.digests.md5(stored.path) != stored.md5 or json.loads(stored.path.read_bytes()) != recorded:
        problems.append(f"{paths.VERDICT} in DVC's cache has changed ({stored.path})")
    entry = subject.entry
    if entry is None or (entry.verdict, entry.passed) != (content_digest(recorded), recorded["passed"]):
        problems.append("the ledger has another verdict")
    if recorded["candidate_digest"] != subject.receipt["weights"]:
        problems.append("it is about other weights")
    problems += canary_level_problems(subject.receipt, _entries(subject))
    approvals, tag = _approvals(subject), subject.version.tags.get(PROMOTED_TAG)
    if tag is not None and tag not in approvals:
        problems.append(f"the registry's tag {PROMOTED_TAG} is {tag!r}, which no entry of the ledger has")
    return link("verdict", problems, "; ".join([outcome_of(recorded), *approvals[-1:]]))


def _entries(subject: Subject) -> list[Entry]:
    """The ledger's entries about the version."""
    return [node.entry for node in subject.chain if node.entry.version == subject.version.version]


def _approvals(subject: Subject) -> list[str]:
    """Who put the version into service, when, and why, by the ledger; the newest last."""
    return [entry.approval for entry in _entries(subject) if entry.decides or entry.kind == "retired"]


LINKS = {
    "ledger": check_ledger,
    "signatures": check_signatures,
    "receipt": check_receipt,
    "commit": check_commit,
    "raw batches": check_raw,
    "dataset": check_dataset,
    "parameters": check_params,
    "inputs": check_inputs,
    "stages": check_stages,
    "base": check_base,
    "weights": check_weights,
    "model files": check_model_files,
    "registry files": check_registry_files,
    "training": check_training,
    "metrics": check_metrics,
    "predictions": check_predictions,
    "report": check_report,
    "other outputs": check_other_outputs,
    "verdict": check_verdict,
    "run": check_run,
    "served path": check_served,
    "alias": check_alias,
}


DATA_LINKS = ("ledger", "signatures", "receipt", "commit", "raw batches", "dataset", "inputs", "stages")
"""The links of a dataset, with those that anchor its receipt."""


def check_all(subject: Subject, names: tuple[str, ...] | None = None) -> Iterator[Link]:
    """Checks every link, in the order of the chain. An unreadable file is a broken link and does not end the audit.

    Args:
        names: only these links.
    """
    is_retired = is_retired_version(subject)
    for name, check in {**LINKS, "files": check_removed}.items():
        if name in (REMOVED_LINKS if is_retired else ("files",)) or (names is not None and name not in names):
            continue
        try:
            yield check(subject)
        except (StropError, OSError) as error:
            yield Link(name, False, str(error))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            yield Link(name, False, f"cannot be read ({type(error).__name__}: {error})")
