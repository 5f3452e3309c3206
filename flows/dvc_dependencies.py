"""Writes the code dependencies of each stage into dvc.yaml, from the imports of its room. Run: `make docs`

A test checks that dvc.yaml is up to date.
"""

from __future__ import annotations

from pathlib import Path

from tasks.runtime.import_closure import ROOT, import_closure

FILE = Path("dvc.yaml")
_CODE = "      - tasks/"


def with_dependencies(text: str) -> str:
    """dvc.yaml with the code dependencies of each stage after its data dependencies."""
    lines: list[str] = []
    stage, is_among_deps = "", False
    for line in text.splitlines():
        if line.startswith("    cmd: python -m tasks "):
            stage = line.rpartition(" ")[2]
        if is_among_deps and not line.startswith("      - "):
            lines += [f"      - {path}" for path in code_of(stage)]
            is_among_deps = False
        is_among_deps = is_among_deps or line == "    deps:"
        if not line.startswith(_CODE) or line.endswith(" # plugin"):
            lines.append(line)
    return "\n".join(lines) + "\n"


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
