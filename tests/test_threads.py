"""torch's threads: as many as there are free cores, at the start and now and then; an explicit number holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.runtime import threads
from tasks.runtime.cores import Limits, Load, Quota
from tasks.runtime.threads import CHECK_EVERY_SECONDS, Choice, Threads, explicit_threads, fitting_threads

TWO = Limits(2, frozenset({0, 1}), None)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves the other tests one thread."""
    yield
    torch.set_num_threads(1)


class World:
    """Two cores, and a clock and a load that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.load = 0.0, Load(0.0)
        world = self

        class Meter:
            def __init__(self, _: Limits) -> None: ...

            def read(self) -> Load:
                return world.load

        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(threads, "read_limits", lambda: TWO)
        monkeypatch.setattr(threads, "LoadMeter", Meter)
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.now)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize(
    ("limits", "load", "expected"),
    [
        (TWO, Load(0.0), 2),
        (TWO, Load(0.2), 2),
        (TWO, Load(0.3), 1),  # measured: two threads lose there (docs/decisions/0014)
        (TWO, Load(1.0), 1),
        (TWO, Load(2.0), 1),
        (Limits(16, None, None), Load(3.1), 13),
        (Limits(64, None, Quota(2.0, Path())), Load(30.0), 2),
        (Limits(64, None, Quota(2.0, Path())), Load(3.0, group=1.0), 1),
        (Limits(64, None, Quota(0.5, Path())), Load(0.0), 1),
    ],
)
def test_there_is_a_thread_for_each_free_core(limits: Limits, load: Load, expected: int) -> None:
    assert fitting_threads(limits, load) == expected


def test_a_busy_core_is_left_alone_and_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.load = Load(1.0)
    assert Threads("evaluate").begin().threads == 1
    assert torch.get_num_threads() == 1
    assert capsys.readouterr().err == "evaluate: 1 thread (2 cores, of which other processes use 1.0)\n"
    world.load = Load(0.0)
    Threads("evaluate").begin()
    assert torch.get_num_threads() == 2
    assert capsys.readouterr().err == ""


def test_the_environment_is_an_explicit_wish(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.load = Load(2.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    chosen = Threads("evaluate")
    assert chosen.begin().threads == 3
    world.now = 10 * CHECK_EVERY_SECONDS
    assert chosen.proposed() is None
    for text in ("", "many", "0", "-1", "2.5", "٣", "9" * 20, "9" * 5000):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert explicit_threads() is None


def test_fewer_are_taken_at_once_and_more_when_two_looks_agree(world: World) -> None:
    chosen = Threads("evaluate", is_quiet=True)
    chosen.begin()
    seen = []
    for load in (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0):
        world.load, world.now = Load(load), world.now + CHECK_EVERY_SECONDS
        chosen.adjust()
        seen.append(torch.get_num_threads())
    assert seen == [2, 1, 1, 1, 1, 2, 2]


def test_between_two_looks_nothing_is_measured(world: World) -> None:
    chosen = Threads("evaluate", is_quiet=True)
    chosen.begin()
    world.load, world.now = Load(1.0), CHECK_EVERY_SECONDS - 1
    chosen.adjust()
    assert torch.get_num_threads() == 2


def test_a_model_that_answers_follows_the_load_between_its_forward_passes(world: World) -> None:
    class Toy(torch.nn.Linear):  # type: ignore[misc]
        device = torch.device("cpu")

    model: Any = Toy(2, 2)
    chosen = Threads("generate", is_quiet=True)
    chosen.follow(model)
    assert torch.get_num_threads() == 2
    world.load, world.now = Load(1.0), CHECK_EVERY_SECONDS
    model(torch.ones(1, 2))
    assert torch.get_num_threads() == 1


def test_one_thread_is_held_whatever_the_load_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "CHECK_EVERY_SECONDS", 0.0)
    torch.set_num_threads(2)
    following = Threads("test", is_quiet=True)
    monkeypatch.setattr(following, "choose", lambda: Choice(4, "idle"))
    with following.hold_one():
        following.adjust()
        following.adjust()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
