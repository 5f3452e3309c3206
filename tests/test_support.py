"""Tests share code through tests/support alone."""

from __future__ import annotations

import ast

from support.project import REPOSITORY


def test_nothing_is_imported_from_a_conftest_or_another_test() -> None:
    for path in (REPOSITORY / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith(("conftest", "test_")), f"{path}: move what it imports to tests/support"
