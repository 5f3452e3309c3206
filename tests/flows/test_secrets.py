"""Secrets in params.yaml, in DVC's configuration, in errors and logs. The files of a whole run: test_toy_flow.py."""

from __future__ import annotations

import http.server
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY, params, write_params

from tasks import errors
from tasks.config import load_config
from tasks.errors import ConfigError, StropError, VersioningError
from tasks.runtime.redaction.errors_and_logs import install, redacted_error
from tasks.runtime.redaction.text import redact


@pytest.mark.parametrize(
    ("section", "secret"),
    [
        ({"register": {"tracking_uri": "https://me:hunter22@mlflow.example/"}}, "register.tracking_uri"),
        ({"register": {"tracking_uri": "postgresql://me:hunter22@db/mlflow"}}, "register.tracking_uri"),
        ({"base": {"model": "https://hub.example/m?token=hunter22"}}, "base.model"),
    ],
)
def test_a_secret_written_out_anywhere_in_params_is_refused_without_being_shown(
    section: dict[str, Any], secret: str, tmp_path: Path
) -> None:
    write_params(tmp_path, {**params("base", []), **section})
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "params.yaml")
    assert f"`{secret}`" in str(caught.value)
    assert "put it into an environment variable, and refer to it here: ${NAME}" in str(caught.value)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("address", ["https://ada:hunter22@host/m.git", "https://hunter22@host/m.git"])
def test_a_password_of_git_is_given_to_git_and_not_to_a_variable(address: str, tmp_path: Path) -> None:
    for value in (address, "https://${LOGIN}@host/m.git"):
        write_params(tmp_path, {**params("base", []), "register": {"ledger_remote": value}})
        with pytest.raises(ConfigError, match=r"1 (secret|error):") as caught:
            load_config(tmp_path / "params.yaml")
        assert "a credential helper of git (`git help credentials`), or use SSH" in str(caught.value)
        assert "environment variable" not in str(caught.value)
        assert "hunter22" not in str(caught.value)


def test_the_address_of_the_registry_takes_its_password_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.tracking.registry import tracking_login, tracking_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_params(tmp_path, {**params("base", []), "register": {"tracking_uri": "https://me:${REGISTRY_PW}@host/"}})
    config = load_config(tmp_path / "params.yaml")
    with pytest.raises(StropError, match="REGISTRY_PW is not set"):
        tracking_uri(config)
    monkeypatch.setenv("REGISTRY_PW", "hunter22")
    assert tracking_uri(config) == "https://host/"
    assert set(tracking_login(config).values()) == {"me", "hunter22"}
    assert "hunter22" not in json.dumps(config.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("url = https://me:hunter22@host/x", "url"),
        ("url = s3://b/x\n    secret_access_key = hunter22", "secret_access_key"),
    ],
)
def test_a_secret_in_gits_own_dvc_config_is_refused_before_anything_is_made(
    lines: str, key: str, project: Path
) -> None:
    from tasks.vcs.dvc_pipeline import require_private_secrets

    require_private_secrets()
    config = project / ".dvc/config"
    config.write_text(f"{config.read_text()}\n['remote \"store\"']\n    {lines}\n")
    with pytest.raises(VersioningError, match=f"dvc remote modify --local store {key} VALUE") as caught:
        require_private_secrets()
    assert "hunter22" not in str(caught.value)


class _Registry(http.server.BaseHTTPRequestHandler):
    """As much of an MLflow server as opening the registry and ending a run take."""

    def do_GET(self) -> None:
        info = {"run_id": "r", "run_uuid": "r", "run_name": "n", "experiment_id": "1", "status": "FINISHED", "user_id": "u",
                "start_time": 1, "artifact_uri": "mlflow-artifacts:/r", "lifecycle_stage": "active"}  # fmt: skip
        experiment = {"experiment_id": "1", "name": "tiny", "lifecycle_stage": "active", "artifact_location": "x"}
        answers = {
            "runs": {"run": {"info": info, "data": {}}, "run_info": info},
            "experiments": {"experiment": experiment},
        }
        body = next((answer for name, answer in answers.items() if f"/{name}/" in self.path), {})
        content = json.dumps(body).encode()
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: Any) -> None:
        pass


def test_mlflow_does_not_print_where_a_run_is_to_be_viewed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tasks.tracking.registry import open_registry

    write_params(project, params("base", [], register={"model_name": "tiny"}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter22@127.0.0.1:{server.server_port}")
    try:
        registry = open_registry(load_config())
        registry.end_run("r")
        assert registry.experiment_id == "1"
    finally:
        server.shutdown()
        server.server_close()
    printed = "".join(capfd.readouterr())
    assert "View run" not in printed
    assert "hunter22" not in printed


@pytest.fixture
def installed() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    install()
    yield
    logging.setLogRecordFactory(before)
    errors.set_redaction(str)


@pytest.mark.usefixtures("installed")
def test_errors_and_logs_of_any_library_are_redacted(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    error = StropError(
        "no access (hunter22)", where="postgresql://me:other33@db/x", fix="See https://h/x?token=other33"
    )
    assert "hunter22" not in repr(error.args) + str(vars(error))
    assert "other33" not in repr(error.args) + str(vars(error))
    logging.getLogger("somebody").warning("reached %s with %s", "https://me:other33@h/", "hunter22")
    try:
        raise ValueError("hunter22")
    except ValueError:
        logging.getLogger("somebody").exception("it broke")
    assert "it broke" in caplog.text
    assert "ValueError" in caplog.text
    assert "hunter22" not in caplog.text
    assert "other33" not in caplog.text


def test_an_error_whose_cause_holds_a_secret_loses_it_and_others_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter22")
    plain = ValueError("nothing to hide")
    assert redacted_error(plain) is plain
    secret = StropError("no access", where="the database")
    secret.__cause__ = ConnectionError("postgresql://me:hunter22@db/x")
    clean = redacted_error(secret)
    assert (type(clean), str(clean), clean.__cause__, clean.__suppress_context__) == (
        StropError,
        str(secret),
        None,
        True,
    )
    assert "hunter22" not in str(redacted_error(ValueError("hunter22")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at postgresql://li:pw%2Fx@db:5432/x", "at postgresql://li:…@db:5432/x"),
        ("https://ghp_token@github.com/x.git", "https://…@github.com/x.git"),
        (
            "GET https://b.s3.example/k?X-Amz-Signature=abc&part=2",
            "GET https://b.s3.example/k?X-Amz-Signature=…&part=2",
        ),
        ("host=db user=li password=hunter2 port=1", "host=db user=li password=… port=1"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer …'}"),
        ("postgresql://li:${DB}@db/x, 第 1 行 a@b.example", "postgresql://li:${DB}@db/x, 第 1 行 a@b.example"),
        (
            "HTTPSConnectionPool(host='b'): Max retries exceeded with url: /k?X-Amz-Signature=abc&sig=d&part=2",
            "HTTPSConnectionPool(host='b'): Max retries exceeded with url: /k?X-Amz-Signature=…&sig=…&part=2",
        ),
        ("at https://li:a/b#c@d@h/x", "at https://li:…@h/x"),
        ("//li:hunter2@h/x", "//li:…@h/x"),
        ("https://a.example:8080/x@y http://[::1]:80/@x", "https://a.example:8080/x@y http://[::1]:80/@x"),
        (
            "connect(user='li', db_password='hunter2', eos_token='</s>')",
            "connect(user='li', db_password='…', eos_token='</s>')",
        ),
        ("{'user': 'li', 'secret_key': 'hunter2'}", "{'user': 'li', 'secret_key': '…'}"),
        ("[(b'authorization', b'Basic bGk6eA==')]", "[(b'authorization', b'Basic …')]"),
        ("Proxy-Authorization: Basic bGk6eA==\nX-Api-Key: abc", "Proxy-Authorization: Basic …\nX-Api-Key: …"),
        ("password=bob", "password=…"),
        ("password: hunter2, user: li", "password: …, user: li"),
        ("client_secret: hunter2 access_token=hunter2", "client_secret: … access_token=…"),
        ("api_key: hunter2\nretries: 3\n密码：hunter2", "api_key: …\nretries: 3\n密码：…"),
        ("curl --password hunter2 https://h/", "curl --password … https://h/"),
        ("https://h/x#access_token=hunter2", "https://h/x#access_token=…"),
        ("Set-Cookie: sid=hunter2; Path=/\nDate: now", "Set-Cookie: …\nDate: now"),
        (f"got ghp_{'a1' * 15} and eyJhbGciOiJI.eyJzdWIiOiIx.hunter2", "got … and …"),
        (
            "in -----BEGIN RSA PRIVATE KEY-----\nMIIEhunter2\nhunter2==\n-----END RSA PRIVATE KEY----- there",
            "in -----BEGIN RSA PRIVATE KEY-----…-----END RSA PRIVATE KEY----- there",
        ),
        ("unexpected token: x, eos_token: </s>, max_tokens=3", "unexpected token: x, eos_token: </s>, max_tokens=3"),
    ],
)
def test_what_is_shaped_like_a_secret_is_left_out(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [f"{part}{filling * (100_000 // len(filling))}\"" for part in
     ("authorization:", "password", "'token':", "https://", "//a:", "cookie:", "-----BEGIN PRIVATE KEY-----", "eyJ")
     for filling in (" ", "a", ":", "@", "://a:b", "password", "authorization:", "'", "?a=", "eyJa",
                     "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaa.")],
    ids=lambda text: re.sub(r"\W+", "_", text[:24]),
)  # fmt: skip
def test_to_leave_secrets_out_takes_time_in_proportion_to_a_text(text: str) -> None:
    start = time.process_time()
    redact(text)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("module", ["tasks.finetune.distributed.worker", "flows.runtime.server_process"])
def test_the_traceback_of_a_child_process_has_no_secret_and_is_encodable(module: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "DB_PASSWORD": "other-secret-33"}
    environment |= {"PREFECT_SERVER_API_AUTH_STRING": "strop:x", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", module, "other-secret-33 城 \x1b[2J"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    written = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert b"Traceback" in written
    assert b"other-secret-33" not in written
    assert b"\x1b" not in written


def test_every_process_that_we_start_prepares_its_streams() -> None:
    starts = re.compile(r"^    (sys\.exit\(|code = )?main\(|get_context\(\"spawn", re.MULTILINE)
    files = [path for folder in ("tasks", "flows") for path in (REPOSITORY / folder).rglob("*.py")]
    files.remove(REPOSITORY / "tasks/sandbox/harness.py")  # it has no variables, and none of our modules
    started = [path for path in files if starts.search(path.read_text())]
    assert len(started) >= 6
    assert [path for path in started if "prepare_streams()" not in path.read_text()] == []


def test_hashes_that_dvc_would_unpickle_are_kept_where_nobody_else_writes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.vcs.dvc_repo import with_repo

    monkeypatch.setattr("tasks.vcs.dvc_repo._set_by_us", {})
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    path = Path(with_repo(lambda repo: repo.site_cache_dir, "asked"))
    private = project / ".strop/dvc"
    assert private in path.parents
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o777)
    with_repo(lambda repo: repo.site_cache_dir, "asked")
    assert private.stat().st_mode & 0o777 == 0o700
    if os.getuid() == 0:
        os.chown(private, 12345, 12345)
        other = Path(with_repo(lambda repo: repo.site_cache_dir, "asked"))
        assert private not in other.parents


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_hashes_are_private_whatever_the_umask(umask: int, project: Path, tmp_path: Path) -> None:
    code = "from tasks.vcs.dvc_repo import with_repo; print(with_repo(lambda repo: repo.site_cache_dir, 'asked'))"
    kept = {key: value for key, value in os.environ.items() if key != "DVC_SITE_CACHE_DIR"}
    subprocess.run([sys.executable, "-c", code], cwd=project, env=kept, check=True, umask=umask, capture_output=True)
    assert (project / ".strop/dvc").stat().st_mode & 0o777 == 0o700
