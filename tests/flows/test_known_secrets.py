"""The known secret values, in any location and in any encoding by a library."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import pytest

from tasks.runtime.redaction.known import without_known
from tasks.runtime.redaction.tool_configs import first_secret

SLASHED = "/bPxRfiCYEXAMPLEKEY+wJalrXUtnFEMI/K7MDENG"
"""A key may begin with a slash: one of 64 of AWS does."""


def test_a_secret_that_begins_with_a_slash_is_known_and_a_path_is_none(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SLASHED)
    monkeypatch.setenv("SSL_KEY_FILE", "/etc/keys/of/mine")
    monkeypatch.setenv("DEPLOY_KEY", str(project))
    text = f"{SLASHED} /etc/keys/of/mine {project}"
    assert without_known(text) == f"${{AWS_SECRET_ACCESS_KEY}} /etc/keys/of/mine {project}"
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (project / ".dvc").mkdir(exist_ok=True)
    config = f"['remote \"a\"']\n    url = s3://bucket\n    secret_access_key = {SLASHED}\n"
    (project / ".dvc/config.local").write_text(config)
    assert SLASHED not in without_known(text)
    (project / ".dvc/config").write_text(config)
    assert first_secret(project / ".dvc/config") == ('remote "a"', "secret_access_key")


@pytest.mark.parametrize(
    "line", ["password = hunter22hunter # of Li", "password = hunter22hunter#of Li", "passphrase = hunter22hunter"]
)
def test_a_comment_behind_a_secret_hides_it_from_nobody(line: str, project: Path) -> None:
    (project / ".dvc").mkdir(exist_ok=True)
    (project / ".dvc/config.local").write_text(f"['remote \"a\"']\n    url = https://a.example/x\n    {line}\n")
    assert "hunter22" not in without_known("no access with hunter22hunter")


@pytest.mark.parametrize("name", ["MYSQL_PWD", "SMTP_PASS", "GH_PAT", "SSH_PASSPHRASE"])
def test_a_variable_with_a_short_name_for_a_password_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "hunter22hunter")
    assert without_known("hunter22hunter") == f"${{{name}}}"


def test_secrets_of_git_are_known_in_the_folder_of_a_run_and_wherever_git_reads_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".git").mkdir(exist_ok=True)
    (project / ".git/config").write_text('[remote "origin"]\n\turl = https://li:first-token@git.example/x\n')
    home = tmp_path / "settings/git"
    home.mkdir(parents=True)
    (home / "config").write_text('[url "https://li:second-token@git.example/"]\n\tinsteadOf = https://git.example/\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home.parent))
    text = "first-token second-token"
    assert without_known(text) == "… …"
    work = project / ".strop/work"
    work.mkdir(parents=True)
    mark = f'{{"project": "{project}", "commit": "", "tree": "", "left_out": [], "made": [], "began": 0}}'
    (work / ".strop-run.json").write_text(mark)
    monkeypatch.chdir(work)
    assert without_known(text) == "… …"


def spellings_of(password: str) -> list[str]:
    """As requests, urllib3, SQLAlchemy, forms, JSON, Python and a traceback write it."""
    quoted = [quote(password, safe=kept) for kept in ("", "/", " +")]
    shown = [json.dumps(password), repr(password), ascii(password), repr(password.encode())]
    return [password, *quoted, quote_plus(password), *shown]


def test_a_password_is_known_however_a_library_spells_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "params.yaml").write_text("url: 'postgresql://li:${DB}@db/x'\n")
    for password in ("wörd/1 +a%", "密码@hunter:22", "it's\\\"so", "p%2fss%e5%af%86"):
        monkeypatch.setenv("DB", password)
        plain = unquote(password)
        for spelling in {*spellings_of(password), *spellings_of(plain)}:
            assert spelling.strip("'\"b") not in without_known(f"no access ({spelling})")


@pytest.mark.parametrize("password", ["hunter@22:ab", "hunter/22ab", "hunter#22ab", "hunter?22ab", "hunter'22\"ab"])
def test_a_password_that_was_not_escaped_in_an_address_is_known_whole(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://li:{password}@proxy.example:3128")
    text = without_known(f"Failed to parse: http://li:{password}@proxy.example:3128")
    assert "hunter" not in text
    assert "22ab" not in text


def test_what_looks_like_an_address_and_what_is_no_text_are_known_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "hunter://22hunter")
    monkeypatch.setenv("HTTP_PROXY", "http://li:\udcff\udcfehunter@proxy:1")
    monkeypatch.setenv("A_CONNECTION_STRING", "AccountName=li;AccountKey=aGVsbG8=;x=y")
    monkeypatch.setenv("ALL_PROXY", "http://li:%61%62@proxy:1")
    text = without_known("hunter://22hunter \udcff\udcfehunter aGVsbG8= abc")
    assert text == "${MY_PASSWORD} … ${A_CONNECTION_STRING} abc"


def test_of_a_key_of_several_lines_each_is_known(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "SSH_PRIVATE_KEY", f"-----BEGIN KEY-----\n{'ab12' * 16}\n{'cd34' * 8}\nef==\n-----END KEY-----\n"
    )
    monkeypatch.setenv("THE_SECRET", f"-----BEGIN KEY-----\\n{'gh56' * 16}\\n-----END KEY-----")
    for line in ("ab12" * 16, "cd34" * 8, "gh56" * 16):
        assert without_known(f"read: {line}") in ("read: ${SSH_PRIVATE_KEY}", "read: ${THE_SECRET}")
    assert without_known("-----BEGIN KEY-----") == "-----BEGIN KEY-----"
