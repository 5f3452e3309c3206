"""Registers the candidate: receipt → version → snapshot commit → tag → push → an entry `judged` in the ledger.

    registration = run(config)

The receipt's digest is the key: after a kill at any step, a second run completes the same version. The ledger entry is
written last; it means that all steps before it are done.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.errors import DataError, GitError, RegistryError
from tasks.model_store.ledger import (
    Entry,
    LedgerMoved,
    append_entry,
    champion_of,
    counts_all,
    current_user,
    head_of,
    judgement_of,
    now,
    read_ledger,
)
from tasks.model_store.ledger_chain import save_head, version_message
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_remote import follow_remote
from tasks.model_store.logged_files import LOGGED, record_of
from tasks.model_store.verdict_tags import mirror_verdicts
from tasks.model_store.versions import commit_of, keep_weights, receipt_at, refused_ref, tag_name
from tasks.register.logged_files import files_tag
from tasks.register.obtain_version import obtain_version
from tasks.register.receipt import obtain_receipt
from tasks.register.version_page import describe, page_at, version_page
from tasks.register.withdrawal import withdraw, withdraw_unjudged
from tasks.runtime.files import content_digest, write_json, write_text
from tasks.signing.settings import SigningSettings
from tasks.signing.signer import open_signer
from tasks.state.verdict import failed_checks, outcome_of
from tasks.tracking.registry import Registry, open_registry
from tasks.tracking.tags import COMMIT_TAG, JUDGED_TAG
from tasks.vcs import dvc_pipeline, git
from tasks.workspace.snapshot_commit import make_snapshot_commit

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)

ATTEMPTS = 20
"""Attempts to append the verdict, while other processes append."""


@dataclass(frozen=True)
class Registration:
    version: int
    outcome: str
    """The gate's verdict: `passed`, `refused` or `inconclusive`."""
    receipt: str
    """The receipt's digest."""
    is_new: bool
    """False: it was registered earlier."""


def run(config: PipelineConfig) -> Registration:
    """Registers the model in data/model with its verdict.

    Raises:
        DataError: the verdict is about another model, or there is none.
        RegistryError: the registry cannot be reached, or does not match the ledger.
        SigningError: signing.key cannot sign; no version was created.
        VersioningError: the data could not be pushed. Everything else is done; run again.
    """
    from filelock import FileLock

    git.require_repository()
    dvc_pipeline.require_private_secrets()
    with FileLock(paths.LOCKS / "register.lock"):
        return _register(config)


def _register(config: PipelineConfig) -> Registration:
    name, remote = config.register_.model_name, config.register_.ledger_remote
    follow_remote(name, remote)
    entries = read_ledger(name)
    receipt = obtain_receipt(config)
    verdict, weights, key = receipt["verdict"], receipt["weights"], content_digest(receipt)
    if verdict["candidate_digest"] != weights:
        what = "a file of data/model has changed since the verdict: damaged, or edited"
        raise DataError(
            what, where=str(paths.MODEL), fix="Remove the folder, and it is trained again: rm -r data/model; strop run"
        )
    champion = champion_of(entries)
    if champion is not None and champion.weights_digest == weights:  # the verdict compares the champion with itself
        judgement = judgement_of(entries, champion.version)
        return Registration(champion.version, judgement.gate if judgement else "passed", champion.receipt, is_new=False)
    if entry := next((e for e in entries if e.kind == "judged" and e.receipt == key), None):
        registry = open_registry(config)
        mirror_verdicts(registry, registry.versions(), read_verified(name))
        return Registration(entry.version, entry.gate, key, is_new=False)

    if not counts_all(receipt["round"], entries):
        withdraw_unjudged(open_registry(config), key)
        raise _late()
    open_signer(config.signing)  # a key that cannot sign ends this before a version is created
    kept = paths.MODELS / keep_weights(paths.MODEL)
    registry = open_registry(config)
    _require_same_registry(registry, entries)
    if not entries:
        save_head(name, None)  # after a kill before the first entry, this clone still knows that it began the ledger
    number = obtain_version(registry, receipt, key, kept)
    commit = _obtain_commit(registry, number, receipt, key)
    registry.set_version_tags(number, {COMMIT_TAG: commit, **files_tag(commit)})
    describe(registry, number, page_at(commit) or version_page(receipt, name, number))
    registry.set_alias("challenger", number)
    pushed = dvc_pipeline.push() if config.register_.push else dvc_pipeline.LOCAL_ONLY
    ledger_commit = _append(registry, _entry(receipt, key, number, commit), receipt["round"], remote, config.signing)
    registry.set_version_tags(number, {JUDGED_TAG: ledger_commit})
    _report(name, number, receipt, pushed)
    return Registration(number, outcome_of(verdict), key, is_new=True)


def _append(
    registry: Registry, entry: Entry, round_: dict[str, Any], remote: str, signing: SigningSettings | None = None
) -> str:
    """Appends the verdict. If other candidates were judged meanwhile, the version is withdrawn: its look was not counted."""
    for _ in range(ATTEMPTS):
        follow_remote(registry.model, remote)
        chain = read_verified(registry.model)
        if own := [n.commit for n in chain if (n.entry.kind, n.entry.receipt) == ("judged", entry.receipt)]:
            return own[0]  # appended by a push whose answer was lost
        entries = [node.entry for node in chain]
        if not counts_all(round_, entries):
            withdraw(registry, entry.version)
            raise _late()
        with suppress(LedgerMoved):  # a promotion or a rollback meanwhile changes nothing here
            return append_entry(registry.model, entry, len(entries), remote, signing)
    raise LedgerMoved("other processes keep appending to it", where=registry.model, fix="Run again: strop run")


def _late() -> DataError:
    what = "other candidates were judged after this round began, so its verdict is at the level of an earlier look"
    return DataError(what, where=str(paths.ROUND), fix="Judge again: strop run --rejudge")


def _require_same_registry(registry: Registry, entries: list[Entry]) -> None:
    """With a ledger that was not fetched, or another registry, two models would get the same number."""
    model = registry.model
    alias = registry.alias("champion")
    if alias is not None and champion_of(entries) is None:
        fix = "Fetch it: git fetch origin 'refs/strop/*:refs/strop/*'; if the alias was set by hand, remove it"
        raise RegistryError(f"the registry has v{alias} of {model} as champion, but the ledger here has none", fix=fix)
    newest = max((v.version for v in registry.versions()), default=0)
    last_judged = max((e.version for e in entries), default=0)
    if last_judged > newest:
        raise RegistryError(
            f"has versions of {model} up to {newest}, but the ledger up to {last_judged}: it is another registry",
            where=registry.address,
            fix="Name the former one in register.tracking_uri; if it is lost, rebuild it: strop registry rebuild",
        )


def _obtain_commit(registry: Registry, number: int, receipt: dict[str, Any], key: str) -> str:
    """The snapshot commit of the version, at its tag (or, if refused, its ref)."""
    model, outcome = registry.model, outcome_of(receipt["verdict"])
    commit = commit_of(model, number)
    if commit is not None:
        existing = receipt_at(commit)
        if existing is None or content_digest(existing) != key:
            fix = "Rename or remove that tag, then run again"
            raise GitError(
                f"points at another commit than that of version {number}", where=tag_name(model, number), fix=fix
            )
        return commit
    version = registry.version(number)
    with TemporaryDirectory(prefix="strop-register-") as scratch:
        files = registry.model_files(version.source, Path(scratch, "model"))
        write_json(LOGGED, record_of(version.source, files, _logged_report(registry, version.run_id, Path(scratch))))
    write_text(paths.VERSION_PAGE, version_page(receipt, model, number))
    head = receipt["ledger_head"] if "ledger_head" in receipt else head_of(model)
    subject = f"{model} v{number}: {outcome}"
    snapshot_commit = make_snapshot_commit(
        version_message(subject, key, head), [paths.RECEIPT, LOGGED, paths.VERSION_PAGE]
    )
    ref = f"refs/tags/{tag_name(model, number)}" if outcome == "passed" else refused_ref(model, number)
    git.make_ref(ref, snapshot_commit)
    return snapshot_commit


def _logged_report(registry: Registry, run_id: str, folder: Path) -> Path | None:
    """A copy of the report that the run has, below `folder`."""
    name = paths.REPORT.name
    return registry.download_file(run_id, name, folder) if registry.has_file(run_id, name) else None


def _entry(receipt: dict[str, Any], key: str, number: int, commit: str) -> Entry:
    verdict = receipt["verdict"]
    failed = [check["name"] for check in failed_checks(verdict)]
    return Entry(
        kind="judged",
        version=number,
        weights_digest=receipt["weights"],
        receipt=key,
        verdict=content_digest(verdict),
        dataset=receipt["dataset"],
        passed=verdict["passed"],
        test_epoch=verdict["test_epoch"],
        test_rows=verdict["test_rows"],
        who=current_user(),
        when=now(),
        why="passed every check" if verdict["passed"] else f"did not pass {', '.join(failed)}",
        commit=commit,
        outcome=verdict.get("outcome", ""),  # not in verdicts of earlier releases, as ledger_rules.py has it
    )


def _report(name: str, number: int, receipt: dict[str, Any], pushed: str) -> None:
    outcome = outcome_of(receipt["verdict"])
    state = {"passed": "passed the gate", "refused": "refused by the gate"}.get(outcome, f"gate {outcome}")
    logger.info(f"register: {name} v{number}, {state} · dataset {receipt['dataset'][:12]} · data {pushed}")
    if left_out := receipt["left_out"]:
        shown = ", ".join(left_out[:3]) + (" …" if len(left_out) > 3 else "")
        logger.warning(f"register: not part of the version, because git does not track them: {shown}")
