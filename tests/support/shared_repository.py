"""Clones of one bare repository: the machines of a team."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from support.toyworld import git as user


def clones_of_one_repository(folder: Path, *names: str) -> list[Path]:
    """Makes `shared.git` in the folder, with one commit, and a clone for each name."""
    with chdir(folder):
        user("init", "-q", "--bare", "shared.git")
        user("clone", "-q", "shared.git", names[0])
        with chdir(names[0]):
            Path(".gitignore").write_text("/.strop/\n")
            user("add", "-A")
            user("commit", "-q", "-m", "Start")
            user("push", "-q", "origin", "HEAD")
        for name in names[1:]:
            user("clone", "-q", "shared.git", name)
    return [folder / name for name in names]
