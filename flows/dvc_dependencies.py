"""Writes the code dependencies of each stage into dvc.yaml, from the imports of its room. Run: `make docs`

A test checks that dvc.yaml is up to date.
"""

from __future__ import annotations

from pathlib import Path

from tasks.runtime.import_closure import ROOT, import_closure
from tasks.vcs.dvc_files import replace_dependencies

FILE = Path("dvc.yaml")
_CODE = "      - tasks/"


def with_dependencies(text: str) -> str:
    """dvc.yaml with the code dependencies of each stage after its data dependencies."""
    return replace_dependencies(
        text,
        lambda stage: (f"      - {path}" for path in code_of(stage)),
        lambda line: line.startswith(_CODE) and not line.endswith(" # plugin"),
    )


def code_of(stage: str) -> list[str]:
    """The modules that may run in a stage, sorted; a folder stands for all its modules."""
    modules = set(import_closure([f"tasks/{stage}"]))
    paths = set()
    for module in modules:
        whole = [folder for folder in module.parents[:-2] if _modules_in(folder) <= modules]
        paths.add((whole[-1] if whole else module).as_posix())
    return sorted(paths)


def _modules_in(folder: Path) -> set[Path]:
    return {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"}


if __name__ == "__main__":
    FILE.write_text(with_dependencies(FILE.read_text(encoding="utf-8")), encoding="utf-8")
