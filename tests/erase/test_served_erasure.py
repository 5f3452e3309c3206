"""Erasing a row that was made of feedback: its texts leave the records of the server too, and late feedback brings nothing back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from support.ingesting import ingest
from support.toyserving import APP, SERVED, SPOOL, fill_spool, records, response, response_id, store

from tasks.erase.plan import make_plan
from tasks.errors import DataError
from tasks.feedback import erase as spool_erasure
from tasks.feedback.check import FeedbackRefused
from tasks.feedback.erase import erase_responses
from tasks.feedback.spool import segments
from tasks.lineage.select_rows import select_rows

SECRET = "安妮住在里昂十号"


def texts_left() -> bytes:
    return b"".join(path.read_bytes() for path in SPOOL.rglob("*") if path.is_file())


def test_an_erasure_plans_and_removes_all_responses_that_may_quote_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill_spool(SECRET)
    ingest(SERVED)
    (row,) = select_rows([], [f"rejected={SECRET}"])
    plan = make_plan([row], "asked to")
    assert plan is not None
    assert plan.responses == tuple(map(response_id, (1, 2, 3)))
    torn = segments(SPOOL)[0]
    with torn.open("ab") as file:
        file.write(SECRET.encode())  # its writer was killed
    age = torn.stat().st_mtime_ns
    erase_responses(SPOOL, plan.responses)
    erase_responses(SPOOL, plan.responses)
    assert SECRET.encode() not in texts_left()
    assert [record["kind"] for record in records()] == ["response", "feedback"]
    assert segments(SPOOL)[0].stat().st_mtime_ns == age  # its retention goes on
    with pytest.raises(FeedbackRefused):
        store().add_feedback({"response_id": response_id(2), "type": "demonstration", "value": SECRET}, APP)
    assert SECRET.encode() not in texts_left()


def test_a_server_that_runs_ends_its_segment_for_an_erasure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spool = store()
    spool.add_response(response(1, text=SECRET))
    with monkeypatch.context() as patch:
        patch.setattr(spool_erasure, "WAIT_SECONDS", 0.1)
        with pytest.raises(DataError, match="still in the records of a server"):
            erase_responses(SPOOL, [response_id(1)])

    def serve() -> None:
        time.sleep(0.1)
        spool.end_segment_after_erasure()
        spool.add_response(response(2))

    thread = threading.Thread(target=serve)
    thread.start()
    erase_responses(SPOOL, [response_id(1)])
    thread.join()
    assert SECRET.encode() not in texts_left()
    assert [record["id"] for record in records()] == [response_id(2)]
