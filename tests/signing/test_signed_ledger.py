"""Receipts and ledger entries are signed where a key is set, and every change to a signature is found."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from support.project import REPOSITORY
from support.shared_repository import clones_of_one_repository
from support.signing import (
    certify,
    decide,
    files_at,
    judge,
    make_key,
    results,
    settings,
    signature_refs,
    statement_at,
    states,
)
from support.toyworld import git as user

from tasks.audit.signatures import check_signatures
from tasks.errors import SigningError
from tasks.model_store import ledger, ledger_remote
from tasks.model_store.ledger import LedgerMoved, read_ledger
from tasks.model_store.ledger_check import read_verified
from tasks.model_store.ledger_remote import follow_remote
from tasks.model_store.serving import Serving, _with_signatures
from tasks.model_store.signatures import require_servable, require_signed, sign_version
from tasks.promote import stage
from tasks.register import rebuild
from tasks.signing.bundle import BundleInvalid, verified_digests
from tasks.signing.check import check_subject
from tasks.signing.refs import Signature, has_signatures, read_signatures, store_signature
from tasks.signing.signer import PASSPHRASE, open_signer
from tasks.signing.trusted import read_trusted
from tasks.tracking.glance import RegistryState
from tasks.vcs import git
from tasks.vcs.git_objects import Objects


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    user("init", "-q")
    Path(".gitignore").write_text("/.strop/\n")
    user("add", "-A")
    user("commit", "-q", "-m", "Start")
    monkeypatch.delenv(PASSPHRASE, raising=False)
    return root


@pytest.fixture
def key(project: Path) -> Path:
    return make_key("王ada", project.parent / "private")


def audit_link(config: Any, version: int = 1) -> Any:
    with Objects() as objects:
        chain = read_verified("tiny")
        subject: Any = SimpleNamespace(
            config=config, model="tiny", chain=chain, version=SimpleNamespace(version=version), objects=objects
        )
        return check_signatures(subject)


def test_a_verdict_is_signed_with_its_receipt_and_each_later_entry_by_itself(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    decide(config, "promoted", 1)
    assert states(config) == ["valid", "valid", "valid"]
    assert len(signature_refs()) == 3
    link = audit_link(config)
    assert (link.state, link.detail) == ("ok", "receipt and 2 entries signed by 王ada")
    assert user("status", "--porcelain", "--untracked-files=no") == ""


def test_without_a_key_nothing_is_signed_and_the_audit_reports_it(project: Path) -> None:
    config = settings()
    judge(config, 1)
    assert not has_signatures("tiny")
    assert states(config) == ["none", "none"]
    assert (audit_link(config).state, audit_link(config).detail) == ("ok", "none, and none is required")


def test_anyone_can_verify_an_exported_signature_with_model_signing(key: Path, tmp_path: Path) -> None:
    from model_signing import verifying

    config = settings(key)
    judge(config, 1)
    (trusted,) = read_trusted(config.signing).keys
    public = tmp_path / "ada.pub"
    public.write_bytes(trusted.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
    for number, ref in enumerate(signature_refs()):
        folder = tmp_path / f"exported{number}"
        # the command of docs/security.md
        subprocess.run(f"mkdir {folder} && git archive {ref} | tar -x -C {folder}", shell=True, check=True)
        bundle = (folder / "model.sig").rename(tmp_path / "model.sig")
        verifier.verify(folder, bundle)
        with (folder / "statement.json").open("a") as statement:
            statement.write(" ")
        with pytest.raises(ValueError, match=r"Hash mismatch for .*statement"):
            verifier.verify(folder, bundle)


def test_a_signature_of_a_key_with_a_passphrase_needs_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(make_key("ada", project.parent, passphrase="芝麻开门"))
    for passphrase, problem in (("", "has a passphrase"), ("wrong", "the passphrase of the private key is wrong")):
        monkeypatch.setenv(PASSPHRASE, passphrase)
        with pytest.raises(SigningError, match=problem) as raised:
            judge(config, 1)
        assert "\n" not in str(raised.value)
        user("tag", "-d", "tiny@v1")
        assert read_ledger("tiny") == []
        assert signature_refs() == []
    monkeypatch.setenv(PASSPHRASE, "芝麻开门")
    judge(config, 1)
    assert states(config) == ["valid", "valid"]


def unreadable(key: Path) -> None:
    key.unlink()


def damaged(key: Path) -> None:
    key.write_text("-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n")


def without_certificate(key: Path) -> None:
    Path("keys/王ada.pem").unlink()


def damaged_certificate(key: Path) -> None:
    Path("keys/王ada.pem").write_text("no certificate")


def another_certificate(key: Path) -> None:
    make_key("王ada", key.parent / "other")


def public_key_alone(key: Path) -> None:
    Path("keys/bob.pem").write_text("-----BEGIN PUBLIC KEY-----\n")


def two_certificates_in_a_file(key: Path) -> None:
    file = Path("keys/王ada.pem")
    file.write_bytes(file.read_bytes() * 2)


def private_key_in_the_folder(key: Path) -> None:
    Path("keys/bob.pem").write_bytes(key.read_bytes())


def of_another_kind(key: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (unreadable, "the private key cannot be read"),
        (damaged, "is no private key in PEM"),
        (of_another_kind, "is not a key on one of the curves"),
        (without_certificate, "no certificate in .* has this key"),
        (damaged_certificate, "is no certificate"),
        (another_certificate, "no certificate in .* has this key"),
        (two_certificates_in_a_file, "has several certificates"),
        (public_key_alone, "is a public key, which has neither an owner nor an end"),
        (private_key_in_the_folder, "is a private key, in the folder of the trusted certificates"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_key_that_cannot_sign_ends_in_one_line_and_nothing_is_appended(
    key: Path, change: Callable[[Path], None], problem: str
) -> None:
    change(key)
    with pytest.raises(SigningError, match=problem) as raised:
        judge(settings(key), 1)
    assert "\n" not in str(raised.value)
    assert "BEGIN" not in str(raised.value)
    assert git.resolve(ledger.ledger_ref("tiny")) is None
    assert signature_refs() == []


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_the_quick_verification_agrees_with_model_signing(project: Path, curve: ec.EllipticCurve) -> None:
    from model_signing import verifying

    signer = open_signer(settings(make_key("ada", project.parent, curve=curve)).signing)
    assert signer is not None
    content = {"statement.json": b"{}", "entry.txt": "条目".encode()}
    bundle = signer.sign(content)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    assert verified_digests(bundle, signer.certificate.public_key) == digests
    folder = Path("signed")
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    public = signer.certificate.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Path("ada.pub").write_bytes(public)
    document = json.loads(bundle)
    forged = json.loads(bundle)
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).replace(digests["entry.txt"].encode(), b"0" * 64)
    forged["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    of_another = json.loads(bundle)
    of_another["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.2+json"
    verifier = verifying.Config().use_elliptic_key_verifier(public_key="ada.pub")
    for each, is_valid in ((document, True), (forged, False), (of_another, False)):
        text = json.dumps(each)
        Path("model.sig").write_text(text)
        with nullcontext() if is_valid else pytest.raises((ValueError, InvalidSignature)):
            verifier.verify(folder, Path("model.sig"))
        with nullcontext() if is_valid else pytest.raises(BundleInvalid):
            verified_digests(text.encode(), signer.certificate.public_key)


@pytest.mark.parametrize(
    ("days", "problem"), [((-9, -1), "the key of ada expired on"), ((1, 9), "the key of ada is not valid before")]
)
def test_an_expired_key_or_one_that_is_not_valid_yet_signs_nothing(
    project: Path, days: tuple[int, int], problem: str
) -> None:
    config = settings(make_key("ada", project.parent, days))
    with pytest.raises(SigningError, match=problem) as raised:
        judge(config, 1)
    assert "\n" not in str(raised.value)
    assert signature_refs() == []
    assert git.resolve(ledger.ledger_ref("tiny")) is None


def test_what_was_signed_before_the_key_expired_stays_valid_and_a_renewed_certificate_changes_nothing(
    project: Path,
) -> None:
    path = make_key("ada", project.parent, (-1, 1))
    config = settings(path)
    judge(config, 1)
    with Objects() as objects:
        (_, entry) = results(config)
        signed = read_signatures("tiny", {entry.subject.id}, objects)[entry.subject.id]
    later = datetime.now(UTC) + timedelta(days=900)
    assert check_subject(entry.subject, signed, read_trusted(config.signing), later).state == "valid"
    with pytest.raises(SigningError, match="expired"):
        open_signer(config.signing, later)
    certify("ada", load_pem_private_key(path.read_bytes(), None), Path("keys/ada-2.pem"), (2, 1000))  # type: ignore[arg-type]
    assert states(config) == ["valid", "valid"]
    assert open_signer(config.signing, later) is not None


def test_a_private_key_inside_the_project_must_be_ignored_by_git(project: Path) -> None:
    path = make_key("ada", project / "secrets")
    for how in ("untracked", "tracked although ignored"):
        if how != "untracked":
            user("add", "-f", str(path))
            Path(".gitignore").write_text("/.strop/\n/secrets/\n")
        with pytest.raises(SigningError, match="is inside the project, and git does not ignore it"):
            open_signer(settings("secrets/ada.key").signing)
    user("rm", "-q", "--cached", str(path))
    assert open_signer(settings("secrets/ada.key").signing) is not None


def test_the_path_of_the_key_may_come_from_a_variable(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings("${STROP_SIGNING_KEY}")
    with pytest.raises(SigningError, match="the environment variable STROP_SIGNING_KEY is not set"):
        open_signer(config.signing)
    monkeypatch.setenv("STROP_SIGNING_KEY", str(key))
    assert open_signer(config.signing) is not None


def test_a_key_that_is_replaced_while_it_signs_is_noticed(key: Path) -> None:
    signer = open_signer(settings(key).signing)
    assert signer is not None
    make_key("王ada", key.parent, trusted=None)
    with pytest.raises(SigningError, match="is not the key of 王ada any more"):
        signer.sign({"statement.json": b"{}"})


# -- tampering


def entry_ref(number: int) -> str:
    """The ref of the signature of an entry of the ledger."""
    commit = read_verified("tiny")[number].commit
    return next(ref for ref in signature_refs() if f"/{commit}/" in ref)


def write(ref: str, files: dict[str, bytes]) -> None:
    store_signature(Signature("", ref, files), "forged")


def swapped() -> None:
    """Between two entries of one version, which the same person signed."""
    one, two = files_at(entry_ref(0)), files_at(entry_ref(1))
    write(entry_ref(0), two)
    write(entry_ref(1), one)


def swapped_file_alone() -> None:
    """The signature file of another entry, with the statement and the content of this one."""
    write(entry_ref(0), files_at(entry_ref(0)) | {"model.sig": files_at(entry_ref(1))["model.sig"]})


def another_statement() -> None:
    files = files_at(entry_ref(0))
    write(entry_ref(0), files | {"statement.json": files["statement.json"].replace(b'"version":1', b'"version":2')})


def another_content() -> None:
    files = files_at(entry_ref(0))
    write(entry_ref(0), files | {"entry.txt": files["entry.txt"] + b" "})


def another_file() -> None:
    write(entry_ref(0), files_at(entry_ref(0)) | {"more.txt": b"more"})


def no_bundle() -> None:
    write(entry_ref(0), {name: content for name, content in files_at(entry_ref(0)).items() if name != "model.sig"})


def one_bit() -> None:
    files = files_at(entry_ref(0))
    bundle = json.loads(files["model.sig"])
    signature = bundle["dsseEnvelope"]["signatures"][0]
    signature["sig"] = signature["sig"][:20] + ("A" if signature["sig"][20] != "A" else "B") + signature["sig"][21:]
    write(entry_ref(0), files | {"model.sig": json.dumps(bundle).encode()})


def no_json() -> None:
    write(entry_ref(0), files_at(entry_ref(0)) | {"model.sig": b"[" * 100_000})


def of_a_lost_object() -> None:
    oid = user("rev-parse", f"{entry_ref(0)}:model.sig").strip()
    Path(f".git/objects/{oid[:2]}/{oid[2:]}").unlink()


def at_the_ref_of_another_key() -> None:
    ref = entry_ref(0)
    user("update-ref", f"{ref[:-16]}{'0' * 16}", ref)


@pytest.mark.parametrize(
    "change",
    [
        *(swapped, swapped_file_alone, another_statement, another_content, another_file, no_bundle, one_bit, no_json),
        *(of_a_lost_object, at_the_ref_of_another_key),
    ],
    ids=lambda change: change.__name__,
)
@pytest.mark.parametrize("require", [(), ("audit", "promotion")], ids=["reported", "required"])
def test_a_changed_signature_is_found_whether_required_or_not(
    key: Path, change: Callable[[], None], require: tuple[str, ...]
) -> None:
    config = settings(key, *require)
    judge(config, 1)
    decide(config, "promoted", 1)
    change()
    actual = results(config)
    assert [result.state for result in actual][1] == "invalid"
    assert "Sign it again: strop sign 1; if the signature is not of your key" in actual[1].problem
    assert actual[1].problem.split("git update-ref -d ")[1] in signature_refs()
    link = audit_link(config)
    assert link.state == "differs"
    assert "has an invalid signature" in link.detail
    if require:
        with pytest.raises(SigningError, match="must not enter service: the entry `judged v1`") as raised:
            require_signed(config, read_verified("tiny"), 1, "promotion")
        assert "\n" not in str(raised.value)
    else:
        require_signed(config, read_verified("tiny"), 1, "promotion")


def resign(config: Any, signed_at: datetime, number: int = 0) -> None:
    """Signs an entry anew with the key of the settings, at another time, as someone does who has the key."""
    (subject,) = (r.subject for r in results(config) if r.subject.id == read_verified("tiny")[number].commit)
    signer = open_signer(config.signing, datetime.now(UTC))
    assert signer is not None
    facts = json.dumps({**subject.facts, "signed_at": signed_at.isoformat()}).encode()
    files = {"statement.json": facts, "entry.txt": subject.content}
    write(entry_ref(number), {**files, "model.sig": signer.sign(files)})


def test_an_entry_signed_by_an_untrusted_key_is_a_difference(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    for ref in signature_refs():
        git.remove_ref(ref)
    mallory = make_key("mallory", key.parent, trusted=key.parent / "hers")
    sign_version(settings(mallory, trusted=str(key.parent / "hers")), 1)
    assert states(config) == ["untrusted", "untrusted"]
    assert "is signed by a key that is not in" in audit_link(config).detail
    assert sign_version(config, 1) != []
    assert states(config) == ["valid", "valid"]  # a trusted signature beside it counts
    assert audit_link(config).state == "ok"


def test_a_certificate_in_the_commit_of_a_version_makes_no_key_trusted(key: Path) -> None:
    trusted = key.parent / "trusted"
    mallory = make_key("mallory", key.parent)  # in keys/, which is committed below
    user("add", "-A")
    user("commit", "-q", "-m", "Trust me")
    judge(settings(mallory), 1)
    assert states(settings(key, trusted=str(trusted))) == ["untrusted", "untrusted"]
    Path("keys/mallory.pem").unlink()
    assert states(settings(key)) == ["untrusted", "untrusted"]


def test_a_replaced_certificate_makes_former_signatures_untrusted(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    another_certificate(key)
    assert states(config) == ["untrusted", "untrusted"]
    assert audit_link(config).state == "differs"


def test_an_expired_key_cannot_sign_a_new_entry_with_an_old_date(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    decide(config, "promoted", 1)
    resign(config, datetime.now(UTC) - timedelta(hours=12), 1)
    assert results(config)[2].state == "invalid"
    assert "is before that of the ledger" in results(config)[2].problem
    resign(config, datetime.now(UTC) + timedelta(days=20), 1)
    assert "is in the future" in results(config)[2].problem


def test_a_signature_outside_the_validity_of_its_key_does_not_count(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    Path("keys/王ada.pem").unlink()
    private: Any = load_pem_private_key(key.read_bytes(), None)
    for days, problem in (((-9, -2), "but it expired on"), ((2, 9), "but it is not valid before")):
        certify("王ada", private, Path("keys/王ada.pem"), days)
        assert states(config) == ["untrusted", "untrusted"]
        assert problem in audit_link(config).detail


def test_a_fast_clock_of_another_machine_does_not_invalidate_later_signatures(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    ahead = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds")
    decide(config, "promoted", 1, when=ahead)
    judge(config, 2)
    assert states(config) == ["valid"] * 3
    assert states(config, 2) == ["valid"] * 2


def test_a_signature_that_could_not_count_since_a_clock_was_fast_is_not_made(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    ahead = datetime.now(UTC) + timedelta(days=800)
    decide(settings(), "promoted", 1, when=ahead.isoformat(timespec="seconds"))
    before = git.refs_below("refs/strop")
    with pytest.raises(
        SigningError, match=f"the ledger has an entry of {ahead:%Y-%m-%d}, by a clock that was fast"
    ) as raised:
        judge(config, 2)
    assert "\n" not in str(raised.value)
    assert git.refs_below("refs/strop") == before
    private: Any = load_pem_private_key(key.read_bytes(), None)
    certify("王ada", private, Path("keys/longer.pem"), (-1, 900))
    user("tag", "-d", "tiny@v2")
    judge(config, 2)
    assert states(config, 2) == ["valid", "valid"]


def test_a_removed_signature_is_reported_and_a_difference_where_the_audit_requires_it(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    decide(config, "promoted", 1)
    git.remove_ref(entry_ref(1))
    link = audit_link(config)
    assert link.state == "unrecorded"
    assert "2 of 3 signed by 王ada; not signed: the entry `promoted v1`" in link.detail
    required = audit_link(settings(key, "audit"))
    assert required.state == "differs"
    assert "is not signed. If it should count (strop history): strop sign 1" in required.detail
    sign_version(config, 1)
    assert audit_link(settings(key, "audit")).state == "ok"


# -- promotion and serving


def registry() -> Any:
    return SimpleNamespace(
        model="tiny", version=lambda number: None, anchors=dict, require_writable=lambda number: None
    )


def test_promotion_refuses_an_unsigned_candidate_also_with_force_and_rollback_an_unsigned_champion(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "open_registry", lambda config: registry())
    monkeypatch.setattr(stage, "reconcile", lambda config: None)
    monkeypatch.setattr(stage, "require_promotable", lambda *_: None)
    judge(settings(), 1)
    config = settings(key, "promotion")
    for force in (False, True):
        with pytest.raises(SigningError, match="tiny v1: must not enter service: the receipt of v1 is not signed"):
            stage.promote(config, 1, "why", None, force=force)
    sign_version(config, 1)
    stage.promote(config, 1, "好", None)
    judge(config, 2)
    stage.promote(config, 2, "better", 1)
    git.remove_ref(entry_ref(0))
    with pytest.raises(SigningError, match="tiny v1: must not enter service: the entry `judged v1`"):
        stage.rollback(config, "投诉", 2)
    sign_version(config, 1)
    stage.rollback(config, "投诉", 2)
    assert [entry.kind for entry in read_ledger("tiny")] == ["judged", "promoted", "judged", "promoted", "rolled_back"]
    assert states(config, 1) == ["valid"] * 4


def test_an_unsigned_promotion_is_not_served(key: Path) -> None:
    config = settings(key, "serving")
    judge(config, 1)
    require_servable(config, 1)  # the challenger: receipt and verdict are signed
    decide(settings(), "promoted", 1)
    with pytest.raises(SigningError, match="tiny v1: must not be loaded: the entry `promoted v1`"):
        require_servable(config, 1)
    require_servable(settings(key), 1)
    serving: Any = ledger_serving()
    assert "strop sign 1" in str(_with_signatures(config, serving).unsigned)
    sign_version(config, 1)
    require_servable(config, 1)
    assert _with_signatures(config, serving).unsigned is None


def test_status_says_that_the_champion_is_unsigned_also_where_the_alias_did_not_follow() -> None:
    assert Serving([], RegistryState(alias=7), "v2 is not signed").problem == "v2 is not signed"


@pytest.mark.parametrize("require", ["promotion", "serving"])
def test_the_alias_does_not_follow_a_champion_that_nobody_signed(
    key: Path, monkeypatch: pytest.MonkeyPatch, require: str
) -> None:
    aliases: dict[str, int] = {}
    versions = [SimpleNamespace(version=number, tags={}, run_id="") for number in (1, 2)]
    of_mlflow = SimpleNamespace(
        model="tiny",
        versions=lambda: versions,
        alias=aliases.get,
        set_alias=aliases.__setitem__,
        remove_alias=aliases.pop,
        set_version_tags=lambda *_: None,
    )
    monkeypatch.setattr(stage, "open_registry", lambda config: of_mlflow)
    for name in ("mirror_verdicts", "record_approvals"):
        monkeypatch.setattr(stage, name, lambda *_: None)
    config: Any = settings(key, require)
    judge(config, 1)
    judge(config, 2)
    decide(config, "promoted", 1)
    assert (stage.reconcile(config), aliases) == (1, {"champion": 1})
    decide(settings(), "promoted", 2)  # by whoever can push to the remote
    with pytest.raises(SigningError, match="tiny v2: must not get the alias `champion`: the entry `promoted v2`"):
        stage.reconcile(config)
    with pytest.raises(SigningError, match="must not get the alias"):
        rebuild._set_aliases(config, of_mlflow)  # type: ignore[arg-type]
    assert aliases == {"champion": 1}
    assert stage.reconcile(settings(key)) == 2
    aliases["champion"] = 1
    sign_version(config, 2)
    assert (stage.reconcile(config), aliases) == (2, {"champion": 2})


def ledger_serving() -> Any:
    return Serving(read_verified("tiny"), RegistryState(problem="none"))


def test_signing_afterwards_signs_what_has_no_valid_signature_and_nothing_twice(key: Path) -> None:
    judge(settings(), 1)
    config = settings(key)
    decide(config, "promoted", 1)
    assert states(config) == ["none", "none", "valid"]
    assert [(r.subject.name[:12], r.state) for r in sign_version(config, 1)] == [
        ("the receipt ", "none"),
        ("the entry `j", "none"),
    ]
    before = signature_refs()
    assert sign_version(config, 1) == []
    assert signature_refs() == before
    with pytest.raises(SigningError, match=r"`signing\.key` is empty"):
        sign_version(settings(), 1)


# -- several machines


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    one, two = clones_of_one_repository(tmp_path, "one", "two")
    return one, two


def shared(machines: tuple[Path, Path]) -> Any:
    trusted = machines[0].parent / "trusted"
    return settings(make_key("ada", machines[0].parent, trusted=trusted), remote="origin", trusted=str(trusted))


def test_signatures_travel_with_their_entry_and_those_made_afterwards_as_well(machines: tuple[Path, Path]) -> None:
    config = shared(machines)
    unsigned = settings(remote="origin")
    with chdir(machines[0]):
        judge(config, 1)
        decide(unsigned, "promoted", 1)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        assert states(config) == ["valid", "valid", "none"]
        sign_version(config, 1)
    with chdir(machines[0]):
        assert not follow_remote("tiny", "origin")  # no new entry
        assert states(config) == ["valid", "valid", "valid"]
        write(entry_ref(2 - 1), {"model.sig": b"{}"})
        assert states(config)[2] == "invalid"
        sign_version(config, 1)  # made again, by the same key: shared as a successor
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        assert states(config) == ["valid", "valid", "valid"]


def test_junk_that_extends_a_signature_at_the_remote_is_replaced_everywhere_by_signing_again(
    machines: tuple[Path, Path],
) -> None:
    config = shared(machines)
    with chdir(machines[0]):
        judge(config, 1)
        ref = entry_ref(0)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        write(ref, {"model.sig": b"{}"})
        user("push", "-q", "origin", ref)
    with chdir(machines[0]):
        follow_remote("tiny", "origin")
        assert states(config) == ["valid", "invalid"]
        user("update-ref", "-d", ref)
        sign_version(config, 1)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        assert states(config) == ["valid", "valid"]


def test_what_is_no_commit_in_the_place_of_a_signature_at_the_remote_is_reported(machines: tuple[Path, Path]) -> None:
    config = shared(machines)
    with chdir(machines[0]):
        judge(config, 1)
        ref = entry_ref(0)
        blob = user("rev-parse", f"{ref}:model.sig").strip()
        user("--git-dir", str(machines[0].parent / "shared.git"), "update-ref", ref, blob)
        with pytest.raises(SigningError, match=f"Remove it there, then repeat: git push origin --delete {ref}"):
            sign_version(config, 1)
        assert states(config) == ["valid", "valid"]
        user("push", "-q", "origin", "--delete", ref)
        assert sign_version(config, 1) == []
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        assert states(config) == ["valid", "valid"]


def test_other_refs_among_the_signatures_of_the_remote_do_not_stop_a_clone(machines: tuple[Path, Path]) -> None:
    config = shared(machines)
    with chdir(machines[0]):
        judge(config, 1)
        ref = entry_ref(0)
        user("push", "-q", "origin", "--delete", ref)
        user("push", "-q", "origin", f"HEAD:{ref}/more", "HEAD:refs/strop/signatures/tiny/对")
        assert not follow_remote("tiny", "origin")
        assert states(config) == ["valid", "valid"]


def test_an_entry_that_loses_leaves_no_signature(machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config = shared(machines)
    with chdir(machines[0]):
        judge(config, 1)
    with chdir(machines[1]):
        follow_remote("tiny", "origin")
        before = git.refs_below("refs/strop", "refs/tags")

        def another_first(*arguments: Any) -> None:
            monkeypatch.setattr(ledger, "publish", ledger_remote.publish)
            with chdir(machines[0]):
                decide(config, "promoted", 1, who="bob")
            ledger_remote.publish(*arguments)

        monkeypatch.setattr(ledger, "publish", another_first)
        with pytest.raises(LedgerMoved):
            decide(config, "promoted", 1)
        assert git.refs_below("refs/strop", "refs/tags") == before
    shared_refs = user("ls-remote", str(machines[0].parent / "shared.git"), "refs/strop/signatures/*").splitlines()
    assert len(shared_refs) == 3


def test_a_signature_of_an_entry_that_was_never_appended_is_not_shared(
    machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = shared(machines)
    with chdir(machines[0]):
        judge(config, 1)
        user("update-ref", f"refs/strop/signatures/tiny/{'0' * 40}/{'0' * 16}", "HEAD")  # as after a kill
        decide(config, "promoted", 1)
        there = user("ls-remote", "origin", "refs/strop/signatures/*")
        assert "0" * 40 not in there.replace("\t", " ").split("/")
        assert len(there.splitlines()) == 3


def test_status_imports_no_cryptography_where_nothing_is_required(project: Path) -> None:
    code = "import sys, tasks.model_store.serving, tasks.model_store.ledger; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})


def test_the_time_of_a_signature_is_recorded_in_its_statement(key: Path) -> None:
    config = settings(key)
    judge(config, 1)
    statement = statement_at(entry_ref(0))
    assert statement["subject"] == "ledger entry"
    assert statement["commit"] == read_verified("tiny")[0].commit
    assert abs(datetime.fromisoformat(statement["signed_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_commands_of_the_documentation_make_a_key_and_verify_a_signature(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project.parent))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv(PASSPHRASE, "芝麻 open")
    section = (
        (REPOSITORY / "docs/security.md").read_text(encoding="utf-8").split("## Signatures\n")[1].split("\n## ")[0]
    )
    make, verify = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    subprocess.run(["bash", "-ec", make], check=True, capture_output=True)
    monkeypatch.setenv("STROP_SIGNING_KEY", str(project.parent / ".config/strop/ada.key"))
    config = settings("${STROP_SIGNING_KEY}", "audit")
    judge(config, 1)
    assert audit_link(config).detail == "receipt and 1 entry signed by Ada"
    done = subprocess.run(
        ["bash", "-ec", verify.replace("REF", entry_ref(0))], check=True, capture_output=True, text=True
    )
    assert "Verification succeeded" in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == read_verified("tiny")[0].commit
