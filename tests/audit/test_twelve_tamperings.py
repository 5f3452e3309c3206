"""Twelve kinds of tampering, one row each: what is changed, and the link that reports it, in the quick walk and in the deep one.

The variants of each kind (every file, every forgery of the ledger, the registry's tables) are in test_tampering.py.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support import toyworld
from support.project import copy_project
from support.tampering import broken, changed, forged_tag, in_dvc, in_registry, replaced, rewritten, with_field

from tasks import paths
from tasks.audit.stage import audit
from tasks.base.pin import verify_base
from tasks.config import load_config
from tasks.runtime.files import content_digest
from tasks.tracking.registry import open_registry

pytestmark = pytest.mark.usefixtures("warm")

Change = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Tampering:
    change: Change
    link: str
    """The link that reports it."""
    names: str
    """What the link names."""
    others: frozenset[str] = frozenset()
    """Further links that must report it, because they depend on the same thing."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Version 1 was registered with a report of its run, and serves."""
    root = copy_project(toyworld.template("judged"), tmp_path_factory.mktemp("twelve") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        paths.REPORT.write_text(report_of(json.loads(paths.VERDICT.read_text())), encoding="utf-8")
        assert toyworld.register().version == 1
        from tasks.promote.stage import promote

        promote(load_config(), 1, why="first", expected_champion=None)
        patch.setattr("tasks.audit.links.verify_base", verify_copy_of_base(root))
        yield root


def report_of(verdict: dict[str, Any]) -> str:
    return f'<meta name="strop-verdict" content="{content_digest(verdict)}"><p>The new model passed. 新模型通过了。</p>'


def verify_copy_of_base(root: Path) -> Callable[..., dict[str, Path]]:
    """The base itself is shared by all tests of a session: the audit reads a copy of it."""
    copy = shutil.copytree(json.loads(paths.BASE.read_text())["id"], root.parent / "base")
    return lambda record, **options: verify_base(replace(record, id=str(copy)), **options)


def edit(path: Callable[[], Path]) -> Change:
    """A change of a byte or a value of a file."""

    @contextlib.contextmanager
    def changing() -> Iterator[None]:
        file = path()
        with replaced(file, changed(file)):
            yield

    return changing


def report_in_registry() -> Path:
    run_id = open_registry(load_config()).version(1).run_id
    return Path("mlflow/artifacts", run_id, "artifacts", paths.REPORT.name)


def raw_batch() -> Path:
    (batch,) = paths.RAW.rglob("*.parquet")
    return batch


def curated_part() -> Path:
    return in_dvc(paths.CURATED, raw_batch().name)


TWELVE = {
    "a row": Tampering(edit(raw_batch), "raw batches", "has changed"),
    # in the toy project a part of the dataset has the bytes of its batch: DVC's cache has them once
    "the dataset": Tampering(edit(curated_part), "dataset", "data/curated/", frozenset({"raw batches"})),
    "a parameter": Tampering(
        lambda: forged_tag("params.yaml"), "parameters", "finetune.seed", frozenset({"ledger", "commit", "stages"})
    ),
    "code": Tampering(lambda: forged_tag("tasks/gate/policy.py"), "stages", "tasks/gate", frozenset({"ledger", "commit"})),
    "the base": Tampering(edit(lambda: Path("../base/model.safetensors")), "base", "model.safetensors has changed"),
    "the weights": Tampering(edit(lambda: in_registry("peft/adapter_model.safetensors")), "weights", "adapter_model.safetensors"),
    "a file that is loaded": Tampering(edit(lambda: in_registry("MLmodel")), "registry files", "MLmodel"),
    "a prediction": Tampering(
        edit(lambda: in_dvc(paths.PREDICTIONS, "answers.json")), "predictions", "data/predictions/answers.json"
    ),
    "a metric": Tampering(edit(lambda: in_dvc(paths.METRICS)), "metrics", "data/reports/metrics.json"),
    "the report": Tampering(edit(report_in_registry), "report", "report.html"),
    "the verdict": Tampering(edit(lambda: in_dvc(paths.VERDICT)), "verdict", "data/reports/verdict.json"),
    "an entry of the ledger": Tampering(
        lambda: rewritten(with_field(1, who="mallory")), "ledger", "has another who than", frozenset({"verdict", "run"})
    ),
}  # fmt: skip


def test_the_version_is_whole_before(world: Path) -> None:
    assert [link for link in audit(load_config(), 1, deep=True) if link.state != "ok"] == []
    (report,) = (link for link in audit(load_config(), 1) if link.name == "report")
    assert "about this verdict" in report.detail


@pytest.mark.parametrize("deep", [False, True], ids=["quick", "deep"])
@pytest.mark.parametrize("kind", TWELVE)
def test_tampering_with_it_is_found_and_named(world: Path, kind: str, deep: bool) -> None:
    tampering = TWELVE[kind]
    with tampering.change():
        result = broken(deep=deep)
        assert tampering.names in result[tampering.link]
        assert result.keys() == {tampering.link, *tampering.others}
    assert broken(deep=deep) == {}


def test_there_are_twelve_kinds() -> None:
    assert len({(item.link, item.names) for item in TWELVE.values()}) == 12


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is missing in run"), (b'<meta name="strop-verdict" content="0">', "is about another verdict")],
)
def test_a_report_that_is_not_the_registered_one_is_named(world: Path, content: bytes | None, words: str) -> None:
    with replaced(report_in_registry(), content):
        assert words in broken(1, "report")["report"]


def test_a_report_without_a_record_is_compared_with_the_verdict(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of earlier releases have no digest of the report."""
    from tasks.audit import report
    from tasks.audit.subject import Subject

    real = Subject.blob

    def without_report(self: Subject, path: Path | str) -> bytes | None:
        content = real(self, path)
        if path != report.LOGGED or content is None:
            return content
        record = json.loads(content)
        del record["report"]
        return json.dumps(record).encode()

    monkeypatch.setattr(Subject, "blob", without_report)
    links = {link.name: link for link in audit(load_config(), 1)}
    assert (links["report"].state, links["registry files"].state) == ("unrecorded", "ok")
    with replaced(report_in_registry(), b"<p>Another one</p>"):
        assert "is about another verdict" in broken(1, "report")["report"]
