"""From requests to a decision: units are answered by canary and champion, users rate them, and a step of the controller ends it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.gateway import call
from support.toyledger import World, begin_canary, make_ledger, reaches, world

from flows.canary import gateway_records, take_step
from tasks import paths
from tasks.feedback.settings import RecordSettings
from tasks.model_store.ledger import read_ledger
from tasks.pii.settings import PiiSettings
from tasks.promote import canary as canaries
from tasks.promote import candidates, stage
from tasks.promote.settings import PromoteSettings
from tasks.serve.record.client import RecorderClient
from tasks.serve.record.start import Start
from tasks.serve.spooled import Spooled

UNITS = 60
TINY: Any = SimpleNamespace(
    register_=SimpleNamespace(model_name="tiny", ledger_remote=""),
    signing=SimpleNamespace(require=(), key=None),
    promote=PromoteSettings(),
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """v1 serves, and v2 passed the gate; without a registry."""
    monkeypatch.chdir(tmp_path)
    registry = SimpleNamespace(model="tiny", version=int, require_writable=int, anchors=dict)
    for module in (canaries, stage):
        monkeypatch.setattr(module, "open_registry", lambda _: registry)
        monkeypatch.setattr(module, "reconcile", lambda _: None)
    for module in (canaries, candidates):
        monkeypatch.setattr(module, "version_receipt", lambda _, version: {"verdict": {"champion_version": 1}})
    make_ledger(2)


async def ask(here: World, unit: int) -> Any:
    messages = [{"role": "user", "content": f"第 {unit} 题"}]
    response = await call(
        here.app, "POST", "/v1/chat/completions", {"model": "tiny", "messages": messages, "user": f"用户 {unit}"}
    )
    assert response.status == 200
    return response.json


async def rated(here: World, good: dict[str, bool]) -> dict[int, str]:
    """Each unit asks twice and rates its first answer; returns who answered it."""
    answered = {}
    for unit in range(UNITS):
        first, again = await ask(here, unit), await ask(here, unit)
        assert first["model"] == again["model"]
        answered[unit] = first["model"]
        rating = {"response_id": first["id"], "value": good[first["model"]], "user": f"用户 {unit}"}
        assert (await call(here.app, "POST", "/v1/feedback", rating)).status == 200
    return answered


@pytest.mark.parametrize(
    ("good", "decision", "serving"),
    [
        ({"tiny@v1": True, "tiny@v2": False}, "take_back", 1),
        ({"tiny@v1": True, "tiny@v2": True}, "promote", 2),
    ],
)
def test_ratings_of_users_decide_who_answers_all_of_them(
    ledger: None, good: dict[str, bool], decision: str, serving: int
) -> None:
    async def work() -> None:
        client = RecorderClient(Start(str(paths.SPOOL), RecordSettings(), PiiSettings(), retention_days=90))
        await client.open()
        spooled = Spooled(client)
        async with world(recorder=spooled, feedback=spooled) as here:
            await here.serves(1)
            assert take_step(TINY, gateway_records) is None, "no canary runs"
            await asyncio.to_thread(begin_canary, 2, 0.5, settle_hours=0.0, after_ratings=UNITS)
            await reaches(lambda: here.factory.open == [1, 2])
            answered = await rated(here, good)
            arms = [list(answered.values()).count(name) for name in ("tiny@v1", "tiny@v2")]
            assert min(arms) >= 15
            state = await asyncio.to_thread(take_step, TINY, gateway_records, time.time() + 1)
            assert state is not None
            assert (state.decision.kind, state.decision.evidence.ratings) == (decision, UNITS)
            assert state.decision.evidence.of_canary == arms[1]
            await reaches(lambda: here.factory.open == [serving])
            assert {(await ask(here, unit))["model"] for unit in range(UNITS)} == {f"tiny@v{serving}"}
        await client.close()
        assert client.counts == {"dropped": 0, "lost": 0, "restarts": 0}

    asyncio.run(work())
    entry = read_ledger("tiny")[-1]
    assert (entry.kind, entry.version) == {1: ("canary_ended", 2), 2: ("promoted", 2)}[serving]
    arms = {record["arm"].partition(":")[0] for record in gateway_records() if record["kind"] == "response"}
    assert arms == {"canary", "champion", ""}
