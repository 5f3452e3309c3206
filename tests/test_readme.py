"""The README: both languages give the same commands, and what they name is there. The strop commands run in tests/flows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.pages import commands_of
from support.project import REPOSITORY

from flows.cli import main

ENGLISH, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
PAGES = [ENGLISH, CHINESE, *(REPOSITORY / "docs").rglob("*.md")]


def test_both_languages_give_the_same_commands() -> None:
    assert commands_of(ENGLISH) == commands_of(CHINESE)


@pytest.mark.parametrize("target", ["demo", "test", "lint", "docs", "test-slow"])
def test_make_knows_what_it_is_asked(target: str) -> None:
    subprocess.run(["make", "-n", target], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_that_a_page_names_exists(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = re.findall(r"`(?:\.venv/bin/)?strop ((?:[a-z]+ ?)+)", page.read_text(encoding="utf-8"))
    for words in {tuple(name.split()[:2]) for name in named}:
        group = words[0] in ("quarantine", "data")
        assert main.run([*words[: 2 if group else 1], "--help"]) == 0, words
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_demo_runs_once_and_then_finds_nothing_new(tmp_path: Path) -> None:
    """`make demo`, as the README has it."""
    command = [".venv/bin/strop", "demo", "--folder", str(tmp_path / "demo")]
    first = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=2200)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "passed the gate and is now champion" in first.stdout
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert "Nothing is new" in again.stdout
