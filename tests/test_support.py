"""Tests share code through tests/support alone."""

from __future__ import annotations

import ast
import itertools
import os

import pytest
from support.project import REPOSITORY


def test_nothing_is_imported_from_a_conftest_or_another_test() -> None:
    for path in (REPOSITORY / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith(("conftest", "test_")), f"{path}: move what it imports to tests/support"


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_variable_that_a_test_sets_is_gone_in_the_next(order: str) -> None:
    assert "STROP_OF_A_TEST" not in os.environ
    os.environ["STROP_OF_A_TEST"] = order


def test_no_two_test_files_have_the_same_name() -> None:
    """Pytest imports both as one module, and does not run the second."""
    names = sorted(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, other in itertools.pairwise(names) if name == other] == []
