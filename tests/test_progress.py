"""What a progress line says: the rate of this process alone, and the time that is left."""

from __future__ import annotations

import time

import pytest

from tasks.runtime.progress import Progress


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Progress:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made = Progress("finetune", 1000.0, "tokens", started=1000.0)
    made.wait = lambda seconds: now.__setitem__(0, now[0] + seconds)  # type: ignore[attr-defined]
    return made


def test_what_an_earlier_process_did_counts_as_done_and_not_for_the_rate(
    progress: Progress, capsys: pytest.CaptureFixture[str]
) -> None:
    """A resumed training began with 183 tokens a second, then 48; in truth it were 25."""
    progress.resume(600.0)
    progress.wait(4.0)  # type: ignore[attr-defined]
    progress.advance(100.0)
    assert progress.rate == pytest.approx(25.0)
    assert progress.seconds_left is None, "too early to tell"
    progress.wait(8.0)  # type: ignore[attr-defined]
    progress.wait(2.0)  # type: ignore[attr-defined]
    progress.advance(250.0)
    assert progress.rate == pytest.approx(25.0)
    assert progress.seconds_left == pytest.approx(2.0)
    assert "finetune: 950/1,000 tokens · 25 tokens/s · 2 s left" in capsys.readouterr().err


def test_minutes_are_told_as_minutes(progress: Progress) -> None:
    progress.total = 100_000.0
    progress.wait(20.0)  # type: ignore[attr-defined]
    progress.advance(500.0)
    assert progress._time_left() == " · 66 min left"
