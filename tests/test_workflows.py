"""The files that GitHub and pre-commit read keep the schemas of those, where the tools that know them are installed (dev)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import REPOSITORY

SCHEMAS = {
    "workflows/*.yml": "vendor.github-workflows",
    "ISSUE_TEMPLATE/[!c]*.yml": "vendor.github-issue-forms",
    "ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}
"""Files below .github → the schema that check-jsonschema has in its package: no network access."""
FILES = [
    *((path, schema) for pattern, schema in SCHEMAS.items() for path in sorted((REPOSITORY / ".github").glob(pattern))),
    (REPOSITORY / "mlflow/compose.yaml", "vendor.compose-spec"),
]


def errors_of(path: Path, schema: str) -> str:
    """What the schema finds wrong with the file; empty where it is valid."""
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.mark.parametrize(("path", "schema"), FILES, ids=lambda each: getattr(each, "name", each))
def test_a_file_is_valid_by_its_schema(path: Path, schema: str) -> None:
    assert errors_of(path, schema) == ""


def test_a_misspelled_key_of_a_workflow_is_an_error(tmp_path: Path) -> None:
    workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    wrong = tmp_path / "ci.yml"
    wrong.write_text(workflow.replace("runs-on:", "run-on:"), encoding="utf-8")
    assert "run-on" in errors_of(wrong, "vendor.github-workflows")


@pytest.mark.skipif(shutil.which("pre-commit") is None, reason="pre-commit is not installed")
def test_the_hooks_are_valid_for_pre_commit() -> None:
    subprocess.run(["pre-commit", "validate-config", str(REPOSITORY / ".pre-commit-config.yaml")], check=True)
