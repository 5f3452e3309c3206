"""`strop check` reports a key that cannot sign, and warns before it expires."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.signing import make_key, settings
from support.toyworld import git as user

from flows.preflight.problem import Problem
from flows.preflight.table import CHECKS, run_check
from tasks.signing.settings import SigningSettings
from tasks.signing.signer import PASSPHRASE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    user("init", "-q")
    monkeypatch.delenv(PASSPHRASE, raising=False)
    return root


def problems(config: Any) -> list[Problem]:
    project: Any = SimpleNamespace(config=config, where=lambda *location: f"params.yaml line 9, {'.'.join(location)}")
    return run_check(next(check for check in CHECKS if check.name == "signing"), project)


def test_a_key_that_can_sign_is_no_problem_and_no_key_neither(project: Path) -> None:
    assert problems(settings(make_key("ada", project.parent))) == []
    assert problems(settings()) == []


@pytest.mark.parametrize(("days", "severity"), [((-9, 29), "warning"), ((-9, 31), None), ((-9, -1), "error")])
def test_the_end_of_a_key_is_a_warning_a_month_before(
    project: Path, days: tuple[int, int], severity: str | None
) -> None:
    result = problems(settings(make_key("王", project.parent, days)))
    assert [problem.severity for problem in result] == ([severity] if severity else [])
    if severity:
        assert "the key of 王 expire" in result[0].what
        assert result[0].where == str(project / "keys/王.pem")


def test_a_key_that_others_may_read_is_a_warning(project: Path) -> None:
    key = make_key("ada", project.parent)
    key.chmod(0o644)
    (problem,) = problems(settings(key))
    assert (problem.severity, problem.fix) == ("warning", f"chmod 600 {key}")


def test_a_missing_passphrase_key_or_package_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key("ada", project.parent, passphrase="secret words")
    (problem,) = problems(settings(key))
    assert (problem.severity, problem.what) == ("error", "the private key has a passphrase")
    (problem,) = problems(settings(project.parent / "none.key"))
    assert "the private key cannot be read" in problem.what
    monkeypatch.setenv(PASSPHRASE, "secret words")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = problems(settings(key))
    assert problem.what == "signing.key needs the package model_signing, which is not installed"
    assert problem.fix == "Install it: pip install 'strop[signing]'"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"key": "-----BEGIN PRIVATE KEY-----\nabc"}, "should be the path of the private key, not the key"),
        ({"require": ["audit"]}, "`require` needs `key`"),
        ({"key": "a", "require": ["review"]}, "'promotion', 'serving' or 'audit'"),
        ({"key": "a", "trusted": " "}, "should be the folder with the trusted certificates"),
    ],
    ids=["text of a key", "no key", "unknown purpose", "no folder"],
)
def test_settings_that_cannot_work_are_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SigningSettings.model_validate_json(json.dumps(values))
