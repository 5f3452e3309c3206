"""A project of its own in a temporary folder: our code, contract and templates, with git and DVC set up."""

from __future__ import annotations

import compileall
import functools
import json
import os
import shutil
import subprocess
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from support.once import once

REPOSITORY = Path(__file__).resolve().parents[2]


def set_up_project(root: Path, has_code: bool = True) -> None:
    """Makes a project folder: our code, contract and templates, with git and DVC set up and one commit.

    The code is linked, not copied (that took a third of the time of many tests): a test that writes into it calls `own_code` first.

    Args:
        has_code: without it, no process of ours can be started in the project; its 1,300 links take 40 ms.
    """
    template = _project_template()
    require_unwritten(template)
    shutil.copytree(template, root, copy_function=_link_code, ignore=None if has_code else _code)


def _code(folder: str, names: list[str]) -> set[str]:
    return {"flows", "tasks"} if Path(folder) == _project_template() else set()


def own_code(root: Path) -> None:
    """Gives a project files of its own instead of links, for tests that write into its code."""
    for file in root.rglob("*.py"):
        stat, content = file.stat(), file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _link_code(source: str, target: str) -> None:
    if source.endswith((".py", ".pyc")) or "/.git/objects/" in source:
        os.link(source, target)
    else:
        _copy(source, target)


def copy_project(template: Path, root: Path) -> Path:
    """A copy of a project, or of a folder with one, for a test. The code is linked: who writes into it calls `own_code` first."""
    require_unwritten(template)
    return Path(shutil.copytree(template, root, symlinks=True, copy_function=_link_packages))


def _link_packages(source: str, target: str) -> None:
    if source.endswith((".py", ".pyc")) and ("/tasks/" in source or "/flows/" in source):
        os.link(source, target)
    else:
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    """Copies a file; not the journal of an SQLite cache of DVC that its last connection removes at this moment."""
    with suppress(FileNotFoundError) if source.endswith(("-wal", "-shm")) else nullcontext():
        shutil.copy2(source, target)


def require_unwritten(template: Path) -> None:
    """Requires that no test wrote into the code of a template, which its copies link."""
    edited = [str(file) for file, stat in _code_files(template).items() if _stat_of(file) != stat]
    assert not edited, f"a test wrote into {edited}, which all projects share: call own_code() first"


@functools.cache
def _code_files(template: Path) -> dict[Path, tuple[int, int]]:
    return {file: _stat_of(file) for file in sorted(template.rglob("*.py"))}


def _stat_of(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.cache
def _project_template() -> Path:
    """Made once: two thousand tests need a project."""
    return once("project", _make_project_template)


def _make_project_template(root: Path) -> None:
    for folder in ("flows", "tasks", "data/contract", "data/forgetting", "data/judges", "data/templates", "recipes"):
        if (REPOSITORY / folder).exists():
            shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dvc.yaml", "constraints.txt", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        if (REPOSITORY / file).exists():
            (root / file).parent.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / file, root / file)
    (root / "mlflow").mkdir()
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    commands = (
        ["init", "-q", "-b", "main", "--template="],
        ["add", "-A"],
        ["commit", "-q", "-m", "Start"],
        ["gc", "-q"],
    )
    for arguments in commands:
        subprocess.run([*git, *arguments], cwd=root, check=True)
    # what Python would write on a first import; it would do so in each project again
    compileall.compile_dir(root, quiet=2)


def params(base: Path | str, sources: list[dict[str, Any]], **sections: dict[str, Any]) -> dict[str, Any]:
    """The content of a params.yaml for a tiny model: small lengths, few steps."""
    config: dict[str, Any] = {
        "base": {"model": str(base)},
        "ingest": {"sources": sources},
        "validate": {"data_docs": False},
        "curate": {},
        "render": {"max_length_tokens": 128, "pack_length_tokens": 256},
        "finetune": {"learning_rate": 5e-3, "max_steps": 4, "lora": {"rank": 4}, "threads": 1},
        "evaluate": {"max_new_tokens": 8, "precision": "fp32"},  # the same bits on every machine
        "gate": {"min_rows": 5, "bootstrap_samples": 500},
        "register": {"model_name": "tiny"},
        "promote": {},
    }
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    return config


def write_params(root: Path, config: dict[str, Any]) -> None:
    """JSON is YAML."""
    (root / "params.yaml").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def begin_round(config: Any) -> None:
    """What `ingest` does when a round begins, without git: the base is pinned, and what the trainings need is written down."""
    from tasks.base.pin import pin_base
    from tasks.state.training_start import Start, write_start

    pin_base(config.base)
    tests = {"anchors": config.evaluate.anchors, "shots": config.evaluate.shots}
    write_start(Start(config.finetune.forms(), **tests, answer_tokens=config.evaluate.max_new_tokens))
