"""Promotions and rollbacks under load, on a real ledger: no error, and no answer from a version that did not serve."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.gateway import call
from support.toyledger import World, make_ledger, reaches, world
from support.toyworld import git
from support.versions import record

from tasks.serve.versions.loaded import VersionRefused

CHAT = "/v1/chat/completions"
REQUESTS, CLIENTS = 2000, 16
STEPS = (
    *(("promoted", 2), ("promoted", 3), ("rolled_back", 2), ("promoted", 4), ("promoted", 5)),
    *(("rolled_back", 4), ("promoted", 6)),
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def ask(world: World, model: str = "tiny", **fields: Any) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "谁在服务 now"}], **fields}
    return await call(world.app, "POST", CHAT, body)


def served_between(swaps: list[tuple[float, int]], begin: float, end: float) -> set[int]:
    """The versions that served at some moment of a time."""
    ends = [when for when, _ in swaps[1:]] + [float("inf")]
    return {version for (start, version), stop in zip(swaps, ends, strict=True) if start <= end and stop >= begin}


def test_two_thousand_requests_over_five_promotions_and_two_rollbacks(ledger: Path) -> None:
    make_ledger(6)
    answers: list[tuple[float, float, int]] = []

    async def client(here: World, number: int) -> None:
        while len(answers) < REQUESTS or answers[-1][2] != STEPS[-1][1]:
            begin = asyncio.get_running_loop().time()
            response = await ask(here, stream=number % 2 == 0)
            assert response.status == 200, response.content
            text = response.content.decode()
            version = int(response.headers["x-strop-version"])
            assert '{"error"' not in text
            assert f"tiny@v{version}" in text
            assert f'"content":"v{version}' in text
            answers.append((begin, asyncio.get_running_loop().time(), version))

    async def work() -> World:
        async with world() as here:
            await here.serves(1)
            clients = [asyncio.ensure_future(client(here, number)) for number in range(CLIENTS)]
            for number, (kind, version) in enumerate(STEPS, 1):
                least = number * REQUESTS // (len(STEPS) + 1)
                await reaches(lambda least=least: len(answers) >= least)
                await asyncio.to_thread(record, kind, version)
                await here.serves(version)
            await asyncio.gather(*clients)
            await reaches(lambda: here.factory.open == [6])
        return here

    here = asyncio.run(work())
    assert [version for _, version in here.swaps] == [1, *(version for _, version in STEPS)]
    assert len(answers) >= REQUESTS
    for begin, end, version in answers:
        assert version in served_between(here.swaps, begin, end)
    assert {version for _, _, version in answers} == {1, 2, 3, 4, 5, 6}


def test_a_request_under_way_ends_on_the_old_version(ledger: Path) -> None:
    make_ledger(2)

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            ((_, old),) = here.factory.engines
            old.gate = asyncio.Event()
            request = asyncio.ensure_future(ask(here))
            await reaches(lambda: len(old.requests) == 2)
            await asyncio.to_thread(record, "promoted", 2)
            await here.serves(2)
            assert (await ask(here)).json["model"] == "tiny@v2"
            assert sorted(here.factory.open) == [1, 2]
            old.gate.set()
            assert (await request).json["model"] == "tiny@v1"
            await reaches(lambda: here.factory.open == [2])

    asyncio.run(work())


def test_of_two_promotions_at_once_only_the_newest_serves(ledger: Path) -> None:
    make_ledger(3)

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            here.factory.gate = asyncio.Event()
            await asyncio.to_thread(record, "promoted", 2)
            await reaches(lambda: len(here.versions.entries) == 5)
            await asyncio.to_thread(record, "promoted", 3)
            await reaches(lambda: len(here.versions.entries) == 6)
            here.factory.gate.set()
            await here.serves(3)
            assert [version for _, version in here.swaps] == [1, 3]
            await reaches(lambda: here.factory.open == [3])

    asyncio.run(work())


@pytest.mark.parametrize("fault", ["refused", "crashes", "mute"])
def test_a_version_that_cannot_be_loaded_leaves_the_old_one_in_service(ledger: Path, fault: str) -> None:
    make_ledger(3)

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            errors = {
                "refused": VersionRefused("tiny@v2 cannot be loaded: the base 基座 changed"),
                "crashes": KeyError("x"),
            }
            here.factory.refused = {2: errors[fault]} if fault in errors else {}
            here.factory.mute = {2} if fault == "mute" else set()
            await asyncio.to_thread(record, "promoted", 2)
            await reaches(lambda: bool(here.versions.readiness.problems))
            ready = await call(here.app, "GET", "/ready")
            assert (ready.status, ready.json["version"]) == (200, 1)
            assert "tiny@v2" in ready.json["problems"][0]
            assert (await ask(here)).json["model"] == "tiny@v1"
            assert here.factory.open == [1]
            await asyncio.to_thread(record, "promoted", 3)
            await here.serves(3)
            assert here.versions.readiness.problems == ()

    asyncio.run(work())


def test_a_ledger_that_breaks_or_is_away_leaves_the_champion_in_service(ledger: Path) -> None:
    make_ledger(2)
    ref = ledger / ".git/refs/strop/ledger/tiny"
    head = ref.read_text()

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            for fault in ("broken", "away"):
                if fault == "broken":
                    ref.write_text("0123456789012345678901234567890123456789\n")
                else:
                    (ledger / ".git").rename(ledger / "away")
                await reaches(lambda: bool(here.versions.readiness.problems))
                ready = await call(here.app, "GET", "/ready")
                assert (ready.status, ready.json["status"]) == (200, "ready")
                assert "the ledger cannot be used" in ready.json["problems"][0]
                assert (await ask(here)).status == 200
                if fault == "broken":
                    ref.write_text(head)
                else:
                    (ledger / "away").rename(ledger / ".git")
                await reaches(lambda: not here.versions.readiness.problems)
            await asyncio.to_thread(record, "promoted", 2)
            await here.serves(2)

    asyncio.run(work())


def test_a_promotion_is_noticed_in_a_project_that_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    make_ledger(2)

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            project.rename(tmp_path / "移动")
            await asyncio.sleep(0.05)
            record("promoted", 2)
            await here.serves(2)

    asyncio.run(work())


def test_before_a_promotion_nothing_is_served_and_the_server_says_so(ledger: Path) -> None:
    git("init", "-q", "-b", "main", "--template=")
    git("commit", "-q", "--allow-empty", "-m", "Start")

    async def work() -> None:
        async with world() as here:
            await asyncio.sleep(0.05)
            ready = await call(here.app, "GET", "/ready")
            assert (ready.status, ready.json["problems"]) == (503, ["no version of tiny was promoted yet"])
            assert (await ask(here)).error == (503, "no_champion", "model")

    asyncio.run(work())


def test_a_server_that_begins_without_its_ledger_refuses_no_version_for_good(ledger: Path) -> None:
    async def work() -> None:
        async with world() as here:
            here.versions.note_ledger_problem("账本不可用")
            for name in ("tiny", "tiny@v1"):
                assert (await ask(here, name)).error == (503, "version_not_loaded", "model")

    asyncio.run(work())


def test_pinned_versions_are_loaded_once_and_leave_for_others(ledger: Path) -> None:
    make_ledger(3)

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            responses = await asyncio.gather(*(ask(here, "tiny@v2") for _ in range(5)))
            assert {response.json["model"] for response in responses} == {"tiny@v2"}
            assert here.factory.open == [1, 2]
            models = {
                model["id"]: model["strop"]["is_loaded"]
                for model in (await call(here.app, "GET", "/v1/models")).json["data"]
            }
            assert models == {
                "tiny": True,
                "tiny@challenger": False,
                "tiny@v3": False,
                "tiny@v2": True,
                "tiny@v1": True,
            }
            assert (await ask(here, "tiny@challenger")).json["model"] == "tiny@v3"
            await reaches(lambda: here.factory.open == [1, 3])
            here.factory.engines[-1][1].gate = asyncio.Event()
            request = asyncio.ensure_future(ask(here, "tiny@v3"))
            await reaches(lambda: len(here.factory.engines[-1][1].requests) == 3)
            assert (await ask(here, "tiny@v2")).error == (503, "versions_busy", "model")
            here.factory.engines[-1][1].gate.set()
            assert (await request).status == 200
            await asyncio.to_thread(record, "promoted", 3)  # already loaded: it is taken as it is
            await here.serves(3)
            assert [version for version, _ in here.factory.engines] == [1, 2, 3]

    asyncio.run(work())


def test_a_pinned_version_that_cannot_be_loaded_is_not_tried_by_every_request(ledger: Path) -> None:
    make_ledger(2)

    async def work() -> None:
        async with world() as here:
            await here.serves(1)
            here.factory.refused = {2: VersionRefused("tiny@v2 cannot be loaded: 缺少签名")}
            responses = await asyncio.gather(*(ask(here, "tiny@v2") for _ in range(3)))
            assert {response.error for response in responses} == {(503, "version_refused", "model")}
            assert "缺少签名" in responses[0].json["error"]["message"]
            here.factory.refused = {}
            assert (await ask(here, "tiny@v2")).error[1] == "version_refused"

    asyncio.run(work())
