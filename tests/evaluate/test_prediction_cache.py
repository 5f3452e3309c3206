"""The key of cached predictions covers the code that computes them, and not the code that scores them."""

from __future__ import annotations

from pathlib import Path

from tasks.evaluate.prediction_cache import PREDICTING, SCORING
from tasks.runtime.import_closure import CHANGES_NO_RESULT, import_closure


def test_another_metric_keeps_the_cached_predictions_and_another_generation_does_not() -> None:
    code = import_closure(PREDICTING, CHANGES_NO_RESULT | SCORING)
    assert not {Path("tasks/scoring/metrics.py"), Path("tasks/scoring/score.py")} & set(code)
    assert {Path("tasks/base/generation.py"), Path("tasks/base/heads.py"), Path("tasks/scoring/thoughts.py")} <= set(
        code
    )
