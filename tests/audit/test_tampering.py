"""The tampering table: one file that affects the output of the model, or one ledger entry, is changed, and the audit names it.

One registered project per module: each case makes a change, checks the report, and undoes it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import toyworld
from support.tampering import (
    REF,
    Change,
    broken,
    changed,
    edited_registry,
    forged_tag,
    in_dvc,
    in_registry,
    replaced,
    rewritten,
    with_field,
)
from support.toyworld import git as user
from support.toyworld import register, run_stages, set_verdicts

from tasks import paths
from tasks.audit.stage import audit
from tasks.config import load_config
from tasks.model_store.ledger import read_ledger
from tasks.model_store.ledger_chain import LAST_HEADS, LedgerBroken, save_head
from tasks.model_store.logged_files import LOGGED
from tasks.model_store.serving import read_serving
from tasks.model_store.versions import commit_of
from tasks.promote.stage import promote, rollback
from tasks.tracking.registry import Registry, open_registry
from tasks.vcs import dvc_outputs

pytestmark = pytest.mark.usefixtures("warm")

ENTRIES = ["judged 1", "promoted 1", "judged 2", "promoted 2", "rolled_back 1", "judged 3", "judged 4"]
"""Of the project: version 3 was refused, and 4 passed the gate and waits."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = shutil.copytree(toyworld.template("serving"), tmp_path_factory.mktemp("tampered") / "project", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        unpack_objects()
        promote(load_config(), 2, why="better", expected_champion=1)
        rollback(load_config(), why="complaints", expected_champion=2)
        set_verdicts(seed2=False)  # equal weights: they are logged once
        run_stages(rejudge=True)
        assert register().outcome == "refused"
        set_verdicts()
        run_stages(rejudge=True)
        assert register().outcome == "passed"
        assert [f"{entry.kind} {entry.version}" for entry in read_ledger("tiny")] == ENTRIES
        yield root


def unpack_objects() -> None:
    """Makes each of git's objects a file, which a test can damage."""
    for pack in Path(".git/objects/pack").glob("*.pack"):
        kept = pack.rename(Path(".git") / pack.name)
        pack.with_suffix(".idx").unlink()
        with kept.open("rb") as content:
            subprocess.run(["git", "unpack-objects", "-q"], stdin=content, check=True)
        kept.unlink()


def test_an_untouched_version_is_ok(world: Path) -> None:
    for version in (1, 2, 3, 4):
        assert [link for link in audit(load_config(), version, deep=True) if link.state != "ok"] == []


# the model in the registry and in DVC

IN_REGISTRY = {
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta", "templates.json"),
    *("components/tokenizer/chat_template.jinja", "components/tokenizer/tokenizer.json"),
    *("components/tokenizer/tokenizer_config.json", "peft/adapter_config.json", "peft/adapter_model.safetensors"),
    "peft/README.md",
}
IN_DVC = {
    *("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "curves.jsonl", "templates.json"),
    *("tokenizer.json", "tokenizer_config.json"),
}


def test_the_table_has_every_file_of_the_model(world: Path) -> None:
    registry = open_registry(load_config())
    assert registry.model_files(registry.version(1).source, Path("scratch")).keys() == IN_REGISTRY
    commit = commit_of("tiny", 1)
    assert commit is not None
    assert {file.relpath for file in dvc_outputs.stored_files(commit, paths.MODEL)} == IN_DVC


@pytest.mark.parametrize("name", sorted(IN_REGISTRY))
def test_a_changed_file_of_the_registrys_model_is_named(world: Path, name: str) -> None:
    path = in_registry(name)
    with replaced(path, changed(path)):
        link = "weights" if name.endswith(".safetensors") else "registry files"
        assert broken() == {
            link: f"{Path(name).name if link == 'weights' else name} in the registry has changed ({path})"
        }


@pytest.mark.parametrize("name", ["generation_config.json", "components/tokenizer/added_tokens.json"])
def test_an_additional_file_that_would_be_loaded_is_named(world: Path, name: str) -> None:
    path = in_registry("MLmodel").parent / name
    with replaced(path, b"{}"):
        assert name in broken(1, "registry files")["registry files"]


def test_a_missing_file_of_the_registrys_model_is_named(world: Path) -> None:
    with replaced(in_registry("peft/adapter_config.json"), None):
        assert broken(1, "registry files")["registry files"] == "peft/adapter_config.json in the registry is gone"


@pytest.mark.parametrize("name", sorted(IN_DVC))
def test_a_changed_file_of_dvcs_model_is_named(world: Path, name: str) -> None:
    path = in_dvc(paths.MODEL, name)
    with replaced(path, changed(path)):
        result = broken()
        assert f"data/model/{name} in DVC's cache has changed" in (result.get("model files") or result["weights"])


@pytest.mark.parametrize(
    ("output", "link"),
    [
        (paths.TRAINING_REPORT, "training"),
        (paths.METRICS, "metrics"),
        (paths.PREDICTIONS / "answers.json", "predictions"),
        (paths.VERDICT, "verdict"),
        (paths.PLOTS / "scores.svg", "other outputs"),
    ],
    ids=str,
)
def test_a_changed_output_is_named(world: Path, output: Path, link: str) -> None:
    path = in_dvc(output.parent, output.name) if link in ("predictions", "other outputs") else in_dvc(output)
    with replaced(path, changed(path)):
        result = broken()
        assert f"{output} in DVC's cache has changed" in result[link]


def test_a_changed_raw_batch_and_a_changed_part_of_the_dataset_are_named(world: Path) -> None:
    (batch,) = paths.RAW.rglob("*.parquet")
    with replaced(batch, changed(batch)):
        assert broken() == {"raw batches": f"{batch} has changed"}
    part = in_dvc(paths.CURATED, batch.name)
    with replaced(part, changed(part)):
        assert f"data/curated/{batch.name} in DVC's cache has changed" in broken(1, "dataset")["dataset"]


@pytest.fixture
def base(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toyworld.own_base(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_changed_file_of_the_base_is_named(base: Path, name: str) -> None:
    assert broken(1, "base") == {}
    (base / name).write_bytes(changed(base / name))
    assert f"{name} has changed" in broken(1, "base")["base"]


def test_a_file_that_was_added_to_the_base_is_named(base: Path) -> None:
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert "chat_template.jinja was added" in broken(1, "base")["base"]


def test_the_audit_reads_a_base_with_unchanged_size_and_times(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.audit import digests

    assert broken(1, "base") == {}
    monkeypatch.setitem(digests.ALGORITHMS, "sha256", lambda path: "0" * 64)  # a bit that the disk flipped
    assert "has changed" in broken(1, "base")["base"]


def test_a_missing_base_is_reported_in_one_line(base: Path) -> None:
    shutil.rmtree(base)
    assert broken(1, "base") == {"base": f"{base}: the base model is missing"}


# what the version's commit holds

AT_THE_TAG = {
    "params.yaml": "parameters",
    "dvc.lock": "inputs",
    "dvc.yaml": "stages",
    "data/contract/contract.yaml": "stages",
    "data/templates/qa.yaml": "stages",
    "data/templates/chat/chatml.jinja": "stages",
    "tasks/gate/policy.py": "stages",
    "tasks/base/weights_digest.py": "stages",
    "verdicts.json": "stages",
    "data/decisions.jsonl": "inputs",
    "data/round.json": "inputs",
    "data/start.json": "inputs",
    "data/base.json": "inputs",
    "constraints.txt": "inputs",
    "data/reports/receipt.json": "receipt",
    "data/reports/logged.json": "registry files",
    "data/reports/version.md": "run",
}


@pytest.mark.parametrize("name", sorted(AT_THE_TAG))
def test_a_changed_file_of_the_versions_commit_is_named(world: Path, name: str) -> None:
    with forged_tag(name):
        result = broken(1, "ledger", AT_THE_TAG[name])
        detail = result[AT_THE_TAG[name]]
        folders = ("data/contract", "data/templates", "tasks/gate")
        in_lock = next((folder for folder in folders if name.startswith(f"{folder}/")), name)
        named = {"params.yaml": "finetune.seed", "dvc.yaml": "stage finetune", LOGGED.as_posix(): "adapter_config.json"}
        assert named.get(name, in_lock) in detail
        assert "names the commit" in result["ledger"], "the ledger fixes the whole commit"
        with pytest.raises(LedgerBroken, match="names the commit"):
            read_ledger("tiny")


def test_a_blob_that_was_rewritten_in_place_is_named(world: Path) -> None:
    import zlib

    oid = user("rev-parse", "tiny@v1:data/round.json").strip()
    stored = Path(".git/objects", oid[:2], oid[2:])
    content = zlib.decompress(stored.read_bytes()).replace(b'"looks": 0', b'"looks": 9')
    with replaced(stored, zlib.compress(content)):
        assert user("show", "tiny@v1:data/round.json").count('"looks": 9'), "git itself does not notice"
        detail = broken(1, "inputs")["inputs"]
        assert "data/round.json" in detail
        assert "does not match its id" in detail


# MLflow's copies

EDITS = {
    "param": ("UPDATE params SET value = '9' WHERE key = 'finetune.lora.rank' AND run_uuid = ?", "finetune.lora.rank"),
    "metric": (
        "UPDATE latest_metrics SET value = 0.99 WHERE key = 'candidate/overall/score' AND run_uuid = ?",
        "candidate/overall/score",
    ),
    "curve": (
        "UPDATE metrics SET value = 0.01 WHERE key = 'train/loss' AND step = 2 AND run_uuid = ?",
        "train/loss at step 2",
    ),
    "end of a curve": (
        "UPDATE latest_metrics SET value = 0.01 WHERE key = 'train/loss' AND run_uuid = ?",
        "metric train/loss is 0.01, its curve ends at",
    ),
    "history of a metric": (
        "UPDATE metrics SET value = 0.99 WHERE key = 'candidate/overall/score' AND run_uuid = ?",
        "candidate/overall/score was 0.99 at some time",
    ),
    "metric beside the model": (
        "UPDATE logged_model_metrics SET metric_value = 0.99 WHERE metric_name = 'candidate/overall/score' AND run_id = ?",
        "candidate/overall/score of the logged model is 0.99",
    ),
    "run": ("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", "everything was deleted in run"),
    "tag": ("UPDATE tags SET value = 'x' WHERE key = 'strop.weights' AND run_uuid = ?", "strop.weights"),
}


@pytest.mark.parametrize("what", sorted(EDITS))
def test_a_changed_copy_in_mlflow_is_named(world: Path, what: str) -> None:
    statement, named = EDITS[what]
    run_id = open_registry(load_config()).version(1).run_id
    with edited_registry((statement, (run_id,))):
        detail = broken(1, "run")["run"]
        assert named in detail
        assert run_id in detail


@pytest.mark.parametrize("name", ["receipt.json", "verdict.json", "metrics.json", "plots/scores.svg"])
def test_a_changed_file_of_the_run_is_named(world: Path, name: str) -> None:
    run_id = open_registry(load_config()).version(1).run_id
    path = Path("mlflow/artifacts", run_id, "artifacts", name)
    content = b"{}" if name.endswith(".json") else b"<svg></svg>"
    with replaced(path, content):
        assert broken() == {"run": f"{name} has changed in run {run_id}"}


TRIALS: list[dict[str, Any]] = [
    {"number": 0, "state": "complete", "parameters": {"lora.rank": 2}, "valid_loss": 2.5, "valid_losses": {"2": 2.5}},
    {"number": 1, "state": "stopped", "parameters": {"lora.rank": 4}, "valid_loss": None, "valid_losses": {"2": 3.5}},
]
TRIAL_EDITS = {
    "UPDATE params SET value = '8' WHERE key = 'lora.rank' AND run_uuid = ?": "parameter lora.rank is 8, not 2",
    "UPDATE latest_metrics SET value = 1 WHERE key = 'valid_loss' AND run_uuid = ?": "valid_loss is 1.0, not 2.5",
    "UPDATE metrics SET value = 1 WHERE key = 'train/valid_loss' AND run_uuid = ?": "at step 2 is not 2.5",
    "UPDATE tags SET value = 'stopped' WHERE key = 'strop.trial_state' AND run_uuid = ?": "it is stopped, not complete",
    "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?": "trial 1 of the search is missing",
}


def test_a_changed_run_of_a_searchs_trial_is_named(world: Path) -> None:
    """The receipt says why the candidate has its settings; these runs are what people look at."""
    from tasks.audit.registered import trial_problems
    from tasks.audit.stage import auditing
    from tasks.register.mlflow_run import complete_trials
    from tasks.tracking.tags import TRIAL_TAG

    with auditing(load_config(), 1) as whole:
        training = {**whole.receipt["training"], "search": {"trials": TRIALS}}
        subject = replace(whole, receipt={**whole.receipt, "training": training})
        run_id = subject.version.run_id
        assert list(trial_problems(whole)) == []
        assert len(list(trial_problems(subject))) == len(TRIALS)
        complete_trials(open_registry(load_config()), run_id, training["search"])
        assert list(trial_problems(subject)) == []
        trial = subject.registry.find_run(TRIAL_TAG, f"{run_id}/0")
        for statement, named in TRIAL_EDITS.items():
            with edited_registry((statement, (trial,))):
                (only,) = trial_problems(subject)
                assert named in only


@pytest.mark.parametrize(
    ("key", "link"),
    [
        ("strop.receipt", "receipt"), ("strop.commit", "commit"), ("strop.dataset", "dataset"), ("strop.weights", "run"),
        ("strop.verdict", "run"), ("strop.files", "registry files"), ("strop.judged", "ledger"), ("strop.ledger", "ledger"),
    ],
)  # fmt: skip
def test_a_changed_tag_of_the_version_is_reported(world: Path, key: str, link: str) -> None:
    statement = "UPDATE model_version_tags SET value = 'forged' WHERE key = ? AND version = 1"
    with edited_registry((statement, (key,))):
        assert "forged" in broken(1, link)[link]


def test_a_moved_alias_is_reported(world: Path) -> None:
    with edited_registry(("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'", ())):
        assert broken() == {
            "alias": "the registry's alias `champion` points at v2, the champion in the ledger is v1: the next run sets it back"
        }


def test_a_version_that_is_loaded_from_the_location_of_another_model_is_reported(world: Path) -> None:
    """`models:/tiny/1` is loaded from the version's own note of the place, not from that of its logged model."""
    other = "(SELECT storage_location FROM model_versions WHERE version = 2)"
    with edited_registry((f"UPDATE model_versions SET storage_location = {other} WHERE version = 1", ())):
        assert broken().keys() == {"registry files"}
        assert "the registry loads v1 from mlflow/artifacts/models/m-" in broken(1, "registry files")["registry files"]


@pytest.mark.parametrize("source", [None, "", "elsewhere", "models:/tiny/2", "/tmp/model"])
def test_a_version_that_names_no_logged_model_is_reported(world: Path, source: str | None) -> None:
    with edited_registry(("UPDATE model_versions SET source = ? WHERE version = 1", (source,))):
        result = broken()
        assert result.keys() == {"weights", "registry files"}
        assert all("names no logged model" in detail for detail in result.values())


# the ledger


def without(place: int) -> Change:
    return lambda chain: [entry for number, entry in enumerate(chain) if number != place]


def swapped(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chain[0], chain[1], chain[5], *chain[2:5], chain[6]]


def with_invented(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    invented = {**chain[0], "version": 9}
    return [*chain, invented, {**invented, "kind": "promoted"}]


FORGERIES: dict[str, Change] = {
    "who of a promotion": with_field(1, who="mallory"),
    "why of a promotion": with_field(3, why="ordered from above"),
    "when of a promotion": with_field(3, when="2020-01-01T00:00:00+00:00"),
    "who of a rollback": with_field(4, who="mallory"),
    "why of a judgement": with_field(2, why="failed better"),
    "when of the newest judgement": with_field(6, when="2020-01-01T00:00:00+00:00"),
    "verdict of the newest judgement": with_field(6, verdict="0" * 64),
    "weights of the champion": with_field(0, weights_digest="0" * 64),
    "a dropped promotion": without(3),
    "a dropped rollback": without(4),
    "a dropped look": without(5),
    "the newest look dropped": without(6),
    "reordered": swapped,
    "an invented version": with_invented,
    "an invented version with a receipt": lambda chain: [*chain, {**chain[0], "version": 9, "receipt": "0" * 64}],
    "an invented promotion": lambda chain: [*chain, {**chain[0], "version": 9, "kind": "promoted"}],
    "a second promotion of the champion": lambda chain: [*chain, {**chain[1], "who": "mallory", "why": "mine"}],
    "a refused version that passed": with_field(5, passed=True),
    "a rollback to what never served": lambda chain: [*chain, {**chain[6], "kind": "rolled_back"}],
}


NAMED = {
    "who of a promotion": r"`promoted v1` \(\w+\) has another who than",
    "why of a promotion": r"`promoted v2` \(\w+\) has another why than",
    "when of a promotion": r"`promoted v2` \(\w+\) has another when than",
    "who of a rollback": r"`rolled_back v1` \(\w+\) has another who than",
    "why of a judgement": r"`judged v2` \(\w+\) has another why than",
    "when of the newest judgement": r"`judged v4` \(\w+\) has another when than",
    "verdict of the newest judgement": r"`judged v4` \(\w+\) has the verdict 0000",
    "weights of the champion": r"`promoted v1` \(\w+\) has another weights_digest",
    "a dropped promotion": r"`rolled_back v1` \(\w+\) rolls back to a version that did not serve",
    "a dropped rollback": r"`judged v3` \(\w+\) is in the place of `rolled_back v1`",
    "a dropped look": r"`judged v4` \(\w+\) is in the place of `judged v3`",
    "the newest look dropped": r"`judged v4` \(\w+\) was dropped",
    "reordered": r"`judged v3` \(\w+\) is in the place of `judged v2`|comes after its own",
    "an invented version": r"`judged v9` \(\w+\) names the receipt of v1",
    "an invented version with a receipt": r"`judged v9` \(\w+\) is about a version whose tag tiny@v9 is not here",
    "an invented promotion": r"`promoted v9` \(\w+\) is about a version that no entry before it judged",
    "a second promotion of the champion": r"`promoted v1` \(\w+\) promotes the version that serves already",
    "a refused version that passed": r"`judged v3` \(\w+\) (has another passed|is about a version whose tag)",
    "a rollback to what never served": r"`rolled_back v4` \(\w+\) rolls back to a version that did not serve",
}


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_forged_ledger_is_reported_and_not_used(
    world: Path, strop: Callable[..., tuple[int, str, str]], name: str
) -> None:
    with rewritten(FORGERIES[name]):
        assert re.search(NAMED[name], broken(1, "ledger")["ledger"])
        for command in ("status", "history"):
            code, out, err = strop(command)
            assert (code, out) == (1, ""), command
            assert err.count("\n") == 1
            assert REF in err
            assert re.search(NAMED[name], err)
            assert "git fetch origin" in err or "git show" in err
    assert read_ledger("tiny")


def test_a_too_deeply_nested_entry_is_one_error_line(world: Path, strop: Callable[..., tuple[int, str, str]]) -> None:
    head = user("rev-parse", REF).strip()
    nested = subprocess.run(
        ["git", "commit-tree", f"{head}^{{tree}}", "-p", head],
        input=f"judged tiny v5\n\n{'[' * 100_000}", capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    user("update-ref", REF, nested)
    try:
        code, out, err = strop("status")
    finally:
        user("update-ref", REF, head)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"holds a commit that is no entry ({nested[:12]}" in err


def test_the_clone_that_has_seen_the_ledger_reports_a_forgery(world: Path) -> None:
    head = user("rev-parse", REF).strip()
    with rewritten(without(6)):
        save_head("tiny", head)
        with pytest.raises(LedgerBroken, match=f"the entry {head[:12]}, which this clone saw in it"):
            read_ledger("tiny")


@pytest.mark.parametrize(
    ("damage", "back"), [("truncated", 0), ("truncated", 3), ("emptied", 3), ("removed", 3), ("rewritten", 3)]
)
def test_a_damaged_entry_is_named_with_a_fix_that_works(
    world: Path, strop: Callable[..., tuple[int, str, str]], damage: str, back: int, tmp_path: Path
) -> None:
    import zlib

    oid = user("rev-parse", f"{REF}~{back}").strip()
    stored = Path(".git/objects", oid[:2], oid[2:])
    whole = stored.read_bytes()
    content = {
        "truncated": whole[:20],
        "emptied": b"",
        "removed": None,
        "rewritten": zlib.compress(zlib.decompress(whole).replace(b"tiny", b"tony")),
    }[damage]
    remote = tmp_path / "remote.git"
    user("clone", "-q", "--mirror", "--no-hardlinks", ".", str(remote))
    with replaced(stored, content):
        assert oid[:12] in broken(1, "ledger")["ledger"]
        for command in (("status",), ("history",), ("status", "--json"), ("rollback",)):
            code, out, err = strop(*command)
            assert (code, out) == (1, "")
            assert oid[:12] in err
        remedy = err[err.index("rm -f ") :].strip()
        assert f".git/objects/{oid[:2]}/{oid[2:]}" in remedy
        packs = set(Path(".git/objects/pack").iterdir())
        user("remote", "add", "origin", str(remote))
        try:
            subprocess.run(remedy, shell=True, check=True, capture_output=True)
            assert [f"{entry.kind} {entry.version}" for entry in read_ledger("tiny")] == ENTRIES
        finally:
            user("remote", "remove", "origin")
            for pack in set(Path(".git/objects/pack").iterdir()) - packs:  # it holds what the next case damages
                pack.unlink()


@pytest.mark.parametrize("note", ["kept", "lost"])
def test_a_deleted_ledger_is_reported(world: Path, strop: Callable[..., tuple[int, str, str]], note: str) -> None:
    head = user("rev-parse", REF).strip()
    user("update-ref", "-d", REF)
    if note == "lost":
        LAST_HEADS.unlink()
    try:
        assert ("is gone" if note == "kept" else "is not here") in broken(1, "ledger")["ledger"]
        code, out, err = strop("status")
        assert (code, out) == (1, "")
        assert "git fetch origin --tags 'refs/strop/*:refs/strop/*'" in err
        assert err.count("\n") == 1
        if note == "kept":
            assert f"git update-ref {REF} {head}" in err
    finally:
        user("update-ref", REF, head)
        save_head("tiny", head)


@pytest.mark.parametrize("how", ["whole", "shallow"])
def test_a_fresh_clone_is_told_to_fetch_the_ledger(world: Path, tmp_path: Path, how: str) -> None:
    depth = ["--depth", "1"] if how == "shallow" else []
    user("clone", "-q", *depth, world.as_uri(), str(tmp_path / "clone"))
    with contextlib.chdir(tmp_path / "clone"):
        user("fetch", "-q", *depth, "origin", "--tags")
        with pytest.raises(LedgerBroken, match="is not here, but the receipt of v4 names its entry"):
            read_ledger("tiny")
        user("fetch", "-q", *depth, "origin", "refs/strop/*:refs/strop/*")
        if how == "shallow":
            with pytest.raises(LedgerBroken, match="This clone is shallow") as raised:
                read_ledger("tiny")
            subprocess.run(str(raised.value.fix).partition(": ")[2], shell=True, check=True, capture_output=True)
        assert [f"{entry.kind} {entry.version}" for entry in read_ledger("tiny")] == ENTRIES
        user("update-ref", REF, f"{REF}~3")  # an older one than the receipts know
        LAST_HEADS.unlink()
        with pytest.raises(LedgerBroken, match="the receipt of v3 names the entry"):
            read_ledger("tiny")


def test_a_replaced_receipt_is_reported(world: Path, strop: Callable[..., tuple[int, str, str]]) -> None:
    first, second = (user("rev-parse", f"tiny@v{version}").strip() for version in (1, 2))
    user("tag", "-f", "tiny@v2", first)
    try:
        assert second[:12] in broken(1, "ledger")["ledger"]
        assert strop("status")[0] == 1
    finally:
        user("tag", "-f", "tiny@v2", second)


def test_an_old_version_reports_what_was_not_recorded(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commit has no digests of the registry's files and names no entry of the ledger."""
    from tasks.audit import ledger as room

    _forget_the_record(monkeypatch)
    claims = room.claims_of
    monkeypatch.setattr(
        room, "claims_of", lambda *given: {v: type(c)(c.commit, c.receipt) for v, c in claims(*given).items()}
    )
    checked = {link.name: link for link in audit(load_config(), 1, deep=True)}
    assert all(link.ok for link in checked.values()), [link for link in checked.values() if not link.ok]
    assert {name for name, link in checked.items() if link.state == "unrecorded"} == {"ledger", "registry files"}
    assert "registered before the digests were recorded" in checked["registry files"].detail
    path = in_registry("peft/adapter_config.json")
    with replaced(path, changed(path)):
        assert (
            "peft/adapter_config.json in the registry differs from data/model/adapter_config.json"
            in (broken(1, "registry files")["registry files"])
        )
    with replaced(path.parent / "generation_config.json", b"{}"):
        assert (
            "peft/generation_config.json in the registry is no file of the trained model"
            in broken(1, "registry files")["registry files"]
        )


@pytest.mark.parametrize(
    ("of_mlflow", "forged", "words"),
    [
        ("loader_module: mlflow.transformers", "loader_module: os", "has loader_module 'os', not mlflow.transformers"),
        ("code: null", "code: code", "has transformers.code 'code', not None"),
        ("peft_adaptor: peft", "peft_adaptor: other", "has transformers.peft_adaptor 'other', not peft"),
        ("code: null", "code: null\n    model_binary: model", "has transformers.model_binary 'model', not None"),
        ("code: null", "code: null\n    revision: main", "has transformers.revision 'main'"),
        ("flavors:", "flavors:\n  keras:\n    code: x", "has a flavor keras"),
        ("    python_version:", "    code: x\n    python_version:", "has python_function.code 'x'"),
        ("flavors:", "flavours:", "has no flavors"),
        ("flavors:", "flavors: [", "is not readable"),
    ],
)
def test_the_mlmodel_of_an_old_version_is_compared_with_what_mlflow_writes(
    world: Path, monkeypatch: pytest.MonkeyPatch, of_mlflow: str, forged: str, words: str
) -> None:
    """Without a record of its digest, MLmodel could name any code that is installed."""
    _forget_the_record(monkeypatch)
    path = in_registry("MLmodel")
    text = path.read_text()
    assert of_mlflow in text
    with replaced(path, text.replace(of_mlflow, forged, 1).encode()):
        assert f"MLmodel in the registry {words}" in broken(1, "registry files")["registry files"]


def test_an_old_model_on_another_base_is_named(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_the_record(monkeypatch)
    path, other = in_registry("MLmodel"), tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"other weights")
    lines = path.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if "local_base_model_path" in line]
    for place, is_other in ((other, True), (tmp_path / "of-another-machine", False)):
        lines[places[0]] = f"    local_base_model_path: {place}"
        with replaced(path, "\n".join(lines).encode()):
            checked = {link.name: link for link in audit(load_config(), 1, deep=True)}["registry files"]
            assert checked.ok is not is_other
            assert ("other weights than the base" in checked.detail) is is_other
    with replaced(path, None):
        assert "MLmodel in the registry is not there" in broken(1, "registry files")["registry files"]


def _forget_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.audit.subject import Subject

    real = Subject.blob
    monkeypatch.setattr(Subject, "blob", lambda self, path: None if path == LOGGED else real(self, path))


def test_a_model_that_was_changed_is_not_registered_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal weights are logged once, but only while every other file is as it was logged."""
    from tasks.base.weights_digest import weights_digest
    from tasks.register.logged_files import reusable_model

    registry: Registry = open_registry(load_config())
    weights, source = weights_digest(paths.MODEL), registry.version(4).source
    kept = paths.MODELS / weights
    assert source == registry.version(3).source
    assert reusable_model(registry, weights, kept) == source
    forgotten: list[str] = []
    monkeypatch.setattr(Registry, "delete_model", lambda self, uri: forgotten.append(uri))
    path = registry.model_files(source, Path("scratch"))["peft/adapter_config.json"]
    with replaced(path, changed(path)):
        assert reusable_model(registry, weights, kept) is None
    assert forgotten == [source]


def test_a_ledger_that_the_registry_refuses_is_not_saved_as_seen(world: Path) -> None:
    head = user("rev-parse", REF).strip()
    message = user("log", "-1", "--format=%B", head).replace('"why":"', '"why":"not ')
    forged = user("commit-tree", f"{head}^{{tree}}", "-p", f"{head}^", "-m", message).strip()
    LAST_HEADS.unlink(missing_ok=True)
    user("update-ref", REF, forged)
    try:
        for ask in (lambda: read_serving(load_config()), lambda: promote(load_config(), 4, "why", expected_champion=1)):
            with pytest.raises(LedgerBroken, match=f"lacks an entry: the registry has {head[:12]}"):
                ask()
    finally:
        user("update-ref", REF, head)
    try:
        assert read_serving(load_config()).champion is not None
    finally:
        save_head("tiny", head)
