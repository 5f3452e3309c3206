"""The modules of the product and their imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from support.project import REPOSITORY

STAGES = ("validate", "curate", "render", "finetune", "evaluate", "gate")
MODULES = sorted(p.relative_to(REPOSITORY) for f in ("tasks", "flows") for p in (REPOSITORY / f).rglob("*.py"))


@cache
def imports(module: Path) -> frozenset[str]:
    """Dotted names that a module imports when it runs, as a parser reads it; what only type checkers read is left out."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse((REPOSITORY / module).read_text(encoding="utf-8")))
    return frozenset(names)
