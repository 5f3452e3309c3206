"""The audit reports one changed byte and names its file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import toyworld
from support.toyworld import git as user
from support.toyworld import run_stages, set_params, set_verdicts

from tasks import paths
from tasks.audit.links import DATA_LINKS, LINKS
from tasks.audit.stage import Link, audit, audit_dataset
from tasks.config import load_config
from tasks.errors import AuditError, RegistryError
from tasks.model_store.ledger import ledger_ref
from tasks.model_store.versions import commit_of, tag_name
from tasks.register.rebuild import rebuild as rebuild_registry
from tasks.runtime.plugins import loaded_plugins, unload_plugins
from tasks.tracking.registry import open_registry
from tasks.vcs import dvc_outputs

pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 serves; version 2 was let through."""
    return toyworld.stand_in("serving", tmp_path, monkeypatch)


def broken(version: int = 1) -> dict[str, str]:
    return {link.name: link.detail for link in audit(load_config(), version, deep=True) if not link.ok}


def change_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def detach(path: Path) -> None:
    """Makes a file a copy of its own, so that a change to it is no change to its hard links."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def test_every_link_of_an_untouched_version_is_ok(world: Path) -> None:
    for version in (1, 2):
        chain = audit(load_config(), version)
        assert all(link.ok for link in chain), [link for link in chain if not link.ok]
        assert [link.name for link in chain] == list(LINKS)
        assert {link.state for link in chain} == {"ok"}


def test_commands_write_files_relative_to_the_working_directory(
    world: Path, monkeypatch: pytest.MonkeyPatch, strop: Callable[..., tuple[int, str, str]]
) -> None:
    for arguments in (("bom", "1", "--output", "bom.json"), ("audit", "1", "--deep", "--html", "audit.html")):
        monkeypatch.chdir(world / "data")
        code, out, err = strop(*arguments)
        assert code == 0, err
        assert (world / "data" / arguments[-1]).is_file()
    assert re.search(r"matches its receipt\. Every byte was read: \d.* in \d+\.\d s\.", out)


def test_an_edited_description_is_reported_and_restored_by_a_rebuild(world: Path) -> None:
    registry = open_registry(load_config())
    before = registry.version(2).description
    assert "It passed the gate" in before
    registry.describe_version(2, before.replace("passed", "passed with honours") + "\n\n只用于新闻 (Ada)")
    assert "the description of the version has not the page data/reports/version.md" in broken(2)["run"]
    rebuild_registry(load_config())
    assert registry.version(2).description.replace("\n\n只用于新闻 (Ada)", "") == before, "what a person wrote stays"
    assert broken(2) == {}


def test_one_changed_byte_in_a_raw_batch_is_named(world: Path) -> None:
    (batch,) = paths.RAW.rglob("*.parquet")
    detach(batch)
    change_one_byte(batch)
    assert broken() == {"raw batches": f"{batch} has changed"}


def test_one_changed_byte_of_a_raw_batch_in_the_cache_is_named(world: Path) -> None:
    (batch,) = paths.RAW.rglob("*.parquet")
    commit = commit_of("tiny", 1)
    assert commit is not None
    name = batch.relative_to(paths.RAW).as_posix()
    stored = next(f for f in dvc_outputs.stored_files(commit, paths.RAW) if f.relpath == name)
    detach(stored.path)
    change_one_byte(stored.path)
    result = broken()
    assert str(batch) in result["raw batches"]
    assert str(stored.path) in result["raw batches"]


def test_one_changed_byte_in_the_registrys_weights_is_named(world: Path) -> None:
    registry = open_registry(load_config())
    (stored,) = registry.weight_files(registry.version(1).source, Path("scratch"))
    detach(stored)
    change_one_byte(stored)
    assert broken() == {"weights": f"adapter_model.safetensors in the registry has changed ({stored})"}
    assert broken(2) == {}


def test_one_changed_byte_in_dvcs_weights_is_named(world: Path) -> None:
    commit = commit_of("tiny", 1)
    assert commit is not None
    stored = next(f for f in dvc_outputs.stored_files(commit, paths.MODEL) if f.relpath == "adapter_model.safetensors")
    detach(stored.path)
    change_one_byte(stored.path)
    assert "data/model/adapter_model.safetensors in DVC's cache has changed" in broken()["weights"]


def test_one_changed_byte_in_the_dataset_is_named(world: Path) -> None:
    commit = commit_of("tiny", 1)
    assert commit is not None
    (stored,) = dvc_outputs.stored_files(commit, paths.CURATED)
    detach(stored.path)
    change_one_byte(stored.path)
    assert f"data/curated/{stored.relpath} in DVC's cache has changed" in broken()["dataset"]


def test_a_changed_base_is_named(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toyworld.own_base(tmp_path, monkeypatch) / "config.json"
    assert "base" not in broken()
    config.write_bytes(config.read_bytes() + b"\n")
    assert "config.json has changed" in broken()["base"]


def test_a_moved_tag_is_reported(world: Path) -> None:
    first, second = (commit_of("tiny", version) for version in (1, 2))
    assert first
    assert second
    user("tag", "-f", tag_name("tiny", 1), second)
    result = broken()
    assert first[:12] in result["commit"]
    assert "the registry names" in result["receipt"]
    assert "weights" in result


def test_a_rewritten_ledger_is_reported(world: Path) -> None:
    user("update-ref", "-d", ledger_ref("tiny"))
    result = broken()
    assert "the ledger names none" in result["receipt"]
    assert "the ledger has another verdict" in result["verdict"]


def test_todays_parameters_data_and_candidate_are_no_part_of_an_old_version(world: Path) -> None:
    set_params(seed=3)
    Path("inbox/two.jsonl").write_text('{"instruction": "New?", "input": "", "output": "Yes."}\n')
    set_verdicts(seed3=False)
    run_stages()
    assert broken(1) == {}
    assert broken(2) == {}


def test_a_version_without_a_commit_is_reported(world: Path) -> None:
    user("tag", "-d", "tiny@v1")
    with pytest.raises(AuditError, match="neither the tag tiny@v1"):
        audit(load_config(), 1)
    with pytest.raises(RegistryError, match="no version 7"):
        audit(load_config(), 7)


def test_a_rebuild_adds_a_link_for_each_stage_up_to_the_training(
    world: Path, monkeypatch: pytest.MonkeyPatch, strop: Callable[..., tuple[int, str, str]]
) -> None:
    from tasks.reproduce import stage
    from tasks.reproduce.result import OutputResult, StageResult

    ran = [
        StageResult("curate", 1.0, (OutputResult("data/curated", "identical"),)),
        StageResult("finetune", 1.0, (OutputResult("data/model", "differs", "2 of 4 tensors differ"),)),
    ]
    options = []
    monkeypatch.setattr(stage, "reproduce", lambda _, n, o: options.append((n, o)) or SimpleNamespace(stages=ran))
    code, out, err = strop("audit", "1", "--rebuild", "--json")
    links = {link["name"]: (link["ok"], link["detail"]) for link in json.loads(out)["links"]}
    assert (code, links["rebuilt curate"]) == (1, (True, "every output identical"))
    assert links["rebuilt finetune"] == (False, "data/model: 2 of 4 tensors differ")
    assert options == [(1, stage.Options("current", until="finetune"))]
    assert "strop reproduce" in err


def test_a_version_is_audited_with_the_plugins_of_its_commit(world: Path) -> None:
    Path("mine").mkdir()
    Path("mine/strop.py").write_text("NUMBER = 1\n")
    set_params(seed=3)
    settings = json.loads(paths.PARAMS.read_text())
    paths.PARAMS.write_text(json.dumps({**settings, "plugins": ["mine.strop"]}))
    run_stages()
    version = toyworld.register().version
    receipt = json.loads(paths.RECEIPT.read_text())
    Path("mine/strop.py").write_text("NUMBER = 22\n")
    assert broken(version) == {}, "the version has its own copy"
    (plugin,) = loaded_plugins()
    assert plugin.root == world, "the project's is loaded again"
    assert plugin.digest != receipt["plugins"]["mine.strop"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(receipt["plugins"], "mine.strop", "0" * 64)
        patch.setattr("tasks.audit.stage.receipt_at", lambda _: receipt)
        assert "plugin mine.strop differs" in broken(version)["parameters"]
    unload_plugins()


def test_settings_of_a_later_release_are_no_difference_unless_params_yaml_has_them(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer Strop knows settings that the receipt of an earlier version does not have."""

    def parameters(*missing: str) -> Link:
        receipt = json.loads(user("show", f"tiny@v1:{paths.RECEIPT}"))
        for name in missing:
            section, key = name.split(".")
            del receipt["params"][section][key]
        monkeypatch.setattr("tasks.audit.stage.receipt_at", lambda _: receipt)
        monkeypatch.setattr("tasks.audit.links.LINKS", {"parameters": LINKS["parameters"]})
        return audit(load_config(), 1)[0]

    assert "later release" not in parameters().detail
    later = parameters("gate.alpha", "gate.confidence")
    assert (later.ok, "2 settings of a later release" in later.detail) == (True, True)
    assert parameters("finetune.seed").detail == "finetune.seed differs"


def test_the_data_links_of_a_dataset_are_checked_alone(world: Path) -> None:
    dataset = json.loads(user("show", f"tiny@v1:{paths.RECEIPT}"))["dataset"]
    for deep in (False, True):
        result = audit_dataset(load_config(), dataset[:8], deep=deep)
        assert [link.name for link in result.links] == list(DATA_LINKS)
        assert (result.is_whole, result.version) == (True, 2), "the newest version with it"
    (batch,) = paths.RAW.rglob("*.parquet")
    detach(batch)
    change_one_byte(batch)
    assert [link.name for link in audit_dataset(load_config(), "v1").links if not link.ok] == ["raw batches"]


def test_the_command_writes_a_page_and_refuses_what_does_not_go_together(
    world: Path, strop: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = strop("audit", "1", "--deep", "--html", "audit.html", "--json")
    facts = json.loads(out)
    assert (code, facts["ok"], facts["deep"], err) == (0, True, True, "")
    assert [entry["kind"] for entry in facts["ledger"]] == ["judged", "promoted", "judged"]
    assert "Audit of version 1" in Path("audit.html").read_text(encoding="utf-8")
    assert "Report: " in strop("audit", "1", "--html", "audit.html")[1]
    for arguments in (
        ["1", "--row", "abcdef"],
        ["--dataset", "v1", "--rebuild"],
        ["--row", "abcdef", "--html", "x"],
        [],
    ):
        assert strop("audit", *arguments)[0] == 2
    code, out, err = strop("audit", "--dataset", "fedcba98")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no version has this dataset" in err
