"""Which modules run when one does: the pattern that reads imports agrees with a parser, and the closure with a real import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.code_graph import MODULES, STAGES, imports
from support.project import REPOSITORY

from tasks.runtime import import_closure as closures
from tasks.runtime.import_closure import (
    CHANGES_NO_RESULT,
    closure_digest,
    code_digest,
    import_closure,
    imports_of,
    module_of,
)

WITH_EXAMPLES = {
    Path("tasks/tracking/__init__.py"): {"tasks.tracking.registry.open_registry"},
    Path("tasks/dataset/__init__.py"): {"tasks.dataset.read_dataset"},
}
"""Modules whose docstring shows an import, which the pattern reads too: it does no harm."""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A toy tree in the place of ours: room/a → below/b → below/c, and room/d by itself."""
    modules = {
        "room/a.py": "def f():\n    from tasks.below import b, paths\n",
        "room/sub/d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tasks.below import e\nx = 1\n",
        "below/b.py": "from tasks.below.c import (\n    one,  # why\n    two as other,\n)\n",
        "below/c.py": "import json, os\nimport tasks.below.f\n",
        "below/e.py": "",
        "below/f.py": "",
        "below/paths.py": "",
    }
    for name, content in modules.items():
        path = tmp_path / "tasks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(closures, "ROOT", tmp_path)
    for cached in (imports_of, closure_digest):
        cached.cache_clear()
    yield tmp_path
    for cached in (imports_of, closure_digest):
        cached.cache_clear()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_the_pattern_reads_what_a_parser_reads(module: Path) -> None:
    ours = {name for name in imports(module) if name.split(".")[0] in ("tasks", "flows")}
    assert imports_of(module) == ours | WITH_EXAMPLES.get(module, set())


def test_the_closure_follows_imports_in_functions_and_subfolders_and_leaves_out_types(toy: Path) -> None:
    names = {path.as_posix().removeprefix("tasks/") for path in import_closure(["tasks/room"])}
    assert names == {"room/a.py", "room/sub/d.py", "below/b.py", "below/c.py", "below/f.py", "below/paths.py"}
    assert Path("tasks/below/c.py") not in import_closure(["tasks/room"], frozenset({Path("tasks/below/b.py")}))


@pytest.mark.parametrize("name", ["room/sub/d.py", "below/c.py", "below/f.py"])
def test_a_change_anywhere_in_the_closure_changes_the_digest(toy: Path, name: str) -> None:
    before = code_digest("tasks/room")
    path = toy / "tasks" / name
    path.write_text(path.read_text() + "# changed\n")
    closure_digest.cache_clear()
    assert code_digest("tasks/room") != before


def test_a_change_outside_it_and_a_copy_elsewhere_do_not(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest("tasks/room")
    (toy / "tasks/below/e.py").write_text("x = 1\n")
    closure_digest.cache_clear()
    assert code_digest("tasks/room") == before
    monkeypatch.setattr(closures, "ROOT", shutil.copytree(toy, toy / "copy"))
    closure_digest.cache_clear()
    assert code_digest("tasks/room") == before


def test_what_changes_no_result_is_there() -> None:
    for path in CHANGES_NO_RESULT:
        assert (REPOSITORY / path).is_file()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("finetune", "evaluate")])
def test_whatever_a_stage_loads_is_in_its_closure(stage: str) -> None:
    code = f"import sys, tasks.{stage}.stage\nprint(*[n for n in sys.modules if n.startswith(('tasks.', 'flows.'))])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    modules = {module_of(name) for name in loaded.stdout.split()}
    assert {path for path in modules if path and path.name != "__init__.py"} <= {
        *import_closure([f"tasks/{stage}"], frozenset())
    }
