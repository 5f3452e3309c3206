"""Judged traces are collected from a real MLflow server, whose login is in its address or in the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.ingesting import errors, ingest, records
from support.mlflowserver import PASSWORD, USER, log_in, server
from support.toy_traces import CHAT, judge, log_chat


def test_judged_traces_come_from_a_server_with_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, "")
    address = server(has_login=True).url
    with monkeypatch.context() as patch:
        log_in(patch)
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment("chat")
        good = log_chat([{"role": "user", "content": "你好"}], {"role": "assistant", "content": "您好！"})
        judge(good, "user_rating", True)
    assert USER not in os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    refused = ingest({**CHAT, "tracking_uri": address}).errors
    assert "needs a login (401)" in str(refused[0])

    monkeypatch.setenv("TRACES_PASSWORD", PASSWORD)
    with_login = address.replace("://", f"://{USER}:${{TRACES_PASSWORD}}@")
    result = ingest({**CHAT, "tracking_uri": with_login})
    assert not result.errors
    assert [each["trace_id"] for each in records("chat")] == [good]
    assert errors("chat") == []
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ, "the login is the source's alone"
