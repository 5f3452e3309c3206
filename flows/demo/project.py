"""The demo: the whole pipeline on an embedded model and real data, in a repository of its own.

strop demo               # one run: .demo/ (`make demo`)
strop demo --rounds 3    # a better model, then a bad batch that the gate refuses: .demo-rounds/
strop demo --loop        # a served model, and one that learned from what people said of its answers: .demo-loop/

The folder is a normal project with a copy of this one's code: git and DVC work there as in a user's project, and nothing in the
user's project changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from flows.demo import rounds as demo_rounds
from flows.demo.data import news_articles, question_answer_pairs, write_records
from flows.demo.rounds import Show, run_and_report
from tasks import paths
from tasks.errors import ConfigError, GitError
from tasks.runtime.files import file_digest

FOLDER = Path(".demo")
ROUNDS_FOLDER = Path(".demo-rounds")
LOOP_FOLDER = Path(".demo-loop")
RECIPE = Path("recipes/smollm2-news.yaml")
ROUNDS_RECIPE = Path("recipes/smollm2-rounds.yaml")
LOOP_RECIPE = Path("recipes/smollm2-loop.yaml")

COPIED = (
    "flows", "tasks", "recipes", "data/contract", "data/forgetting", "data/judges", "data/templates", "dvc.yaml", "constraints.txt",
    "pyproject.toml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore",
)  # fmt: skip
"""Copied from this project: code and rules, never data, parameters or tags."""


def demo(show: Show, rounds: int = 1, folder: Path | None = None) -> int:
    """Runs the demo, passes its results to `show`, and returns the exit code.

    Raises:
        StropError: an error that the user can fix, in one line.
    """
    source = paths.find_root(Path(__file__).parent)
    folder = (folder or (FOLDER if rounds == 1 else ROUNDS_FOLDER)).absolute()
    make_project(source, folder, RECIPE if rounds == 1 else ROUNDS_RECIPE)
    with chdir(folder):
        if rounds > 1:
            return demo_rounds.run_rounds(rounds, show)
        fill_inbox()
        return run_and_report(show).exit_code


def demo_loop(show: Show, folder: Path | None = None) -> int:
    """As `demo`: the loop of serving and learning."""
    from flows.demo.loop import run_loop

    folder = (folder or LOOP_FOLDER).absolute()
    make_project(paths.find_root(Path(__file__).parent), folder, LOOP_RECIPE)
    with chdir(folder):
        return run_loop(show)


def make_project(source: Path, folder: Path, recipe: Path = RECIPE) -> None:
    """Creates the demo's repository, or updates its code; its data and history are kept.

    Raises:
        ConfigError: the folder exists, and is not a demo.
        GitError: git is not installed, or failed.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / ".git").is_dir():
        fix = "Choose another: strop demo --folder FOLDER"
        raise ConfigError("exists, and is not a demo", where=str(folder), fix=fix)
    changed = [_copy(source / name, folder / name) for name in COPIED]
    changed.append(_copy(source / recipe, folder / paths.PARAMS))
    (folder / paths.REGISTRY_FOLDER).mkdir(exist_ok=True)
    if not (folder / ".git").is_dir():
        _git(folder, "init", "-q", "-b", "main")
    if any(changed) or not (folder / ".git/refs/heads/main").exists():
        _git(folder, "add", "-A", "--", *COPIED, str(paths.PARAMS))
        _git(folder, "commit", "-q", "--allow-empty", "-m", "The demo's project, made from Strop")


def _copy(source: Path, target: Path) -> bool:
    """Copies a file or a folder of code; returns whether anything changed."""
    if source.is_file():
        if target.is_file() and file_digest(source) == file_digest(target):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return True
    files = [p for p in sorted(source.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    removed = {p.relative_to(target) for p in target.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    removed -= {p.relative_to(source) for p in files}
    for name in removed:
        (target / name).unlink()
    changed = [_copy(p, target / p.relative_to(source)) for p in files]  # a list: all files are copied
    return any(changed) or bool(removed)


def _git(folder: Path, *arguments: str) -> None:
    who = {"NAME": "Strop demo", "EMAIL": "demo@localhost"}
    identity = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in who.items()}
    environment = os.environ | identity
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise GitError("git is not installed", fix="Install it, then run again") from error
    if done.returncode:
        what = f"git {arguments[0]} failed: {done.stderr.strip()}"
        raise GitError(what, where=str(folder), fix="Remove the folder, run again")


def fill_inbox() -> None:
    """Writes the demo's files into the inbox, once."""
    files: dict[str, Callable[[], list[dict[str, str]]]] = {
        "bbc.jsonl": news_articles,
        "chat-en.jsonl": lambda: question_answer_pairs("english"),
        "chat-zh.jsonl": lambda: question_answer_pairs("chinese"),
    }
    for name, read in files.items():
        if not (Path("inbox") / name).exists():
            write_records(Path("inbox") / name, read())
