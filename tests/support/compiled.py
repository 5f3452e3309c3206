"""Compiles the tests and the product once, before the workers start: each would compile all of it, in ten seconds of a core.

Also where PYTHONDONTWRITEBYTECODE keeps imports from writing what they compiled.
"""

from __future__ import annotations

import compileall
import os
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import PYC_TAIL, _read_pyc, _rewrite_test, _write_pyc, assertstate_key, get_cache_dir

from support.project import REPOSITORY

PACKAGES = ("flows", "tasks")


def compile_for_workers(config: pytest.Config) -> None:
    """In one process for each package, each with its share of the tests."""
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    children = []
    for number, package in enumerate(PACKAGES):
        if (child := os.fork()) == 0:
            try:
                _compile(config, package, files[number :: len(PACKAGES)])
            finally:
                os._exit(0)  # what is not compiled here is compiled by those who import it
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _compile(config: pytest.Config, package: str, files: list[Path]) -> None:
    compileall.compile_dir(REPOSITORY / package, quiet=2)
    state = config.stash[assertstate_key]
    for file in files:
        compiled = get_cache_dir(file) / (file.name.removesuffix(".py") + PYC_TAIL)
        if _read_pyc(file, compiled) is None:
            compiled.parent.mkdir(exist_ok=True)
            source_hash, code = _rewrite_test(file, config)
            _write_pyc(state, code, source_hash, compiled)
