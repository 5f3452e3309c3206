"""The signatures of a version: on its receipt, and on each of its ledger entries. See docs/decisions/0038-signatures.md.

with signed(model, [*chain, node], settings): ...           # signs the newest entry while it is appended
require_signed(config, chain, 3, "promotion")               # raises unless `signing.require` is satisfied
results = check_version(config, chain, 3, objects)          # for the audit
sign_version(config, 3)                                     # afterwards: strop sign 3
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.errors import SigningError
from tasks.model_store.ledger_chain import ChainNode
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_entries import champion_of
from tasks.model_store.ledger_remote import follow_signatures, publish_signatures
from tasks.model_store.versions import commit_of
from tasks.signing.refs import BUNDLE, STATEMENT, Signature, read_signatures, signature_ref, store_signature
from tasks.signing.settings import Purpose, SigningSettings
from tasks.signing.signer import Signer, open_signer
from tasks.signing.subject import Result, Subject, statement_of
from tasks.signing.trusted import read_trusted
from tasks.vcs import git
from tasks.vcs.git_objects import Objects

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

_LONG_AGO = datetime.fromtimestamp(0, UTC)


@contextmanager
def signed(model: str, chain: list[ChainNode], settings: SigningSettings | None) -> Iterator[None]:
    """Signs the newest entry of the chain, and the receipt of a verdict, before the block appends it. If the block fails, the
    signatures are removed.

    Raises:
        SigningError: the key cannot sign.
    """
    signer = open_signer(settings) if settings else None
    if signer is None:
        yield
        return
    with Objects() as objects:
        subjects = [_entry(model, chain, len(chain) - 1, objects)]
        if chain[-1].entry.kind == "judged":
            subjects.insert(0, _receipt(model, chain, len(chain) - 1, objects))
    refs = _sign(model, subjects, signer)
    try:
        yield
    except BaseException:
        for ref in refs:
            git.remove_ref(ref)
        raise


def require_signed(config: PipelineConfig, chain: list[ChainNode], version: int, purpose: Purpose) -> None:
    """Requires valid signatures of the receipt and the verdict of a version; of the champion that is loaded, also of the entry that
    put it into service. Nothing is checked if `signing.require` lacks the purpose.

    Raises:
        SigningError: one is missing or invalid.
    """
    if purpose in config.signing.require:
        consequence = "enter service" if purpose == "promotion" else "be loaded"
        _require_valid(config, chain, version, consequence, as_champion=purpose == "serving")


def require_signed_champion(config: PipelineConfig, chain: list[ChainNode]) -> None:
    """Requires valid signatures of the champion, and of the entry by which it serves, before the registry's alias is moved to it:
    that entry may come from the remote, and a server that reads the alias verifies none.

    Raises:
        SigningError: one is missing or invalid, and `signing.require` names `promotion` or `serving`.
    """
    champion = champion_of([node.entry for node in chain])
    if champion is not None and {"promotion", "serving"} & {*config.signing.require}:
        _require_valid(config, chain, champion.version, "get the alias `champion`", as_champion=True)


def _require_valid(
    config: PipelineConfig, chain: list[ChainNode], version: int, consequence: str, *, as_champion: bool
) -> None:
    needed = {node.commit for node in chain if (node.entry.kind, node.entry.version) == ("judged", version)}
    champion = champion_of([node.entry for node in chain])
    if as_champion and champion is not None and champion.version == version:
        needed |= {node.commit for node in chain if node.entry is champion}
    with Objects() as objects:
        results = check_version(config, chain, version, objects)
    for result in results:
        if result.state != "valid" and (result.subject.facts["commit"] in needed or "receipt" in result.subject.facts):
            what = f"must not {consequence}: {result.problem}"
            raise SigningError(what, where=f"{config.register_.model_name} v{version}")


def require_servable(config: PipelineConfig, version: int) -> None:
    """`require_signed` before a version is loaded to answer users."""
    if "serving" in config.signing.require:
        require_signed(config, read_verified(config.register_.model_name), version, "serving")


def check_version(config: PipelineConfig, chain: list[ChainNode], version: int, objects: Objects) -> list[Result]:
    """The result for the receipt and for each ledger entry of a version, in order.

    Raises:
        SigningError: a trusted certificate is damaged, or the receipt is not in git.
    """
    from tasks.signing.check import check_subject  # cryptography

    model, trusted = config.register_.model_name, read_trusted(config.signing)
    subjects = _subjects(model, chain, version, objects)
    signatures = read_signatures(model, {subject.id for subject in subjects}, objects)
    now = datetime.now(UTC)
    return [check_subject(subject, signatures[subject.id], trusted, now) for subject in subjects]


def sign_version(config: PipelineConfig, version: int) -> list[Result]:
    """Signs the receipt and the ledger entries of a version that have no valid signature, and shares the signatures with the
    ledger. Returns what was signed, with its former state. The caller has audited the version.

    Raises:
        SigningError: `signing.key` is empty or cannot sign, or the remote has another object in the place of a signature.
        RemoteUnreachable: the remote does not answer, or refuses the signatures. Those that were made stay here.
    """
    model, remote = config.register_.model_name, config.register_.ledger_remote
    signer = open_signer(config.signing)
    if signer is None:
        raise SigningError("`signing.key` is empty", where=str(paths.PARAMS), fix="See docs/security.md, Signatures")
    if remote:  # a signature that the remote has is made again as its successor, else it could not be shared
        follow_signatures(model, remote)
    with Objects() as objects:
        missing = [r for r in check_version(config, read_verified(model), version, objects) if r.state != "valid"]
    _sign(model, [result.subject for result in missing], signer)
    if remote:
        publish_signatures(model, remote)
    return missing


def _subjects(model: str, chain: list[ChainNode], version: int, objects: Objects) -> list[Subject]:
    subjects = []
    for number, node in enumerate(chain):
        if node.entry.version == version:
            subjects += [_receipt(model, chain, number, objects)] if node.entry.kind == "judged" else []
            subjects.append(_entry(model, chain, number, objects))
    return subjects


def _receipt(model: str, chain: list[ChainNode], number: int, objects: Objects) -> Subject:
    """The receipt that the verdict at a position of the chain names, with the bytes in the version commit."""
    entry = chain[number].entry
    commit = entry.commit or commit_of(model, entry.version)
    blob = objects.find(f"{commit}:{paths.RECEIPT.as_posix()}") if commit else None
    name = f"the receipt of v{entry.version}"
    if blob is None:
        fix = f"Fetch it: git fetch origin --tags 'refs/strop/*:refs/strop/*'; then: strop audit {entry.version}"
        raise SigningError(f"git lacks {name}, which is signed", where=model, fix=fix)
    facts = _facts("receipt", model, entry.version, str(commit)) | {"receipt": entry.receipt}
    return Subject(name, entry.receipt, paths.RECEIPT.name, blob.data, facts, _newest_time(chain[: number + 1]))


def _entry(model: str, chain: list[ChainNode], number: int, objects: Objects) -> Subject:
    node = chain[number]
    content = objects.read(node.commit, "commit").data
    facts = _facts("ledger entry", model, node.entry.version, node.commit)
    name = f"the entry {node}"
    return Subject(name, node.commit, "entry.txt", content, facts, _newest_time(chain[: number + 1]))


def _facts(kind: str, model: str, version: int, commit: str) -> dict[str, Any]:
    return {"subject": kind, "model": model, "version": version, "commit": commit}


def _newest_time(chain: list[ChainNode]) -> datetime:
    return max((_time(node.entry.when) for node in chain), default=_LONG_AGO)


def _time(when: str) -> datetime:
    try:
        moment = datetime.fromisoformat(when)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return _LONG_AGO


def _sign(model: str, subjects: list[Subject], signer: Signer) -> list[str]:
    """Signs and stores; returns the refs. All or none."""
    signatures = []
    for subject in subjects:
        moment = max(datetime.now(UTC), subject.earliest)  # another machine's clock may be fast
        _require_valid_key(signer, subject, moment)
        files = {STATEMENT: statement_of(subject, moment), subject.file: subject.content}
        ref = signature_ref(model, subject.id, signer.certificate.fingerprint)
        signatures.append((subject, Signature(subject.id, ref, {**files, BUNDLE: signer.sign(files)})))
    for subject, signature in signatures:
        store_signature(signature, f"Sign {subject.name}")
    return [signature.ref for _, signature in signatures]


def _require_valid_key(signer: Signer, subject: Subject, moment: datetime) -> None:
    """A signature cannot be older than the ledger, and would not count after the end of the key."""
    if not signer.certificate.is_valid_at(moment):
        what = (
            f"cannot be signed: the ledger has an entry of {moment:%Y-%m-%d}, by a clock that was fast, and the key of "
            f"{signer.certificate.owner} expires on {signer.certificate.not_after:%Y-%m-%d}"
        )
        fix = (
            f"Make a certificate of the key that is valid on {moment:%Y-%m-%d}. Nothing was changed. See: strop history"
        )
        raise SigningError(what, where=subject.name, fix=fix)
