"""The table of forms, in which `render` writes rows (tasks/dataset/rendered.py). Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Form:
    module: str
    """The module in tasks/render/forms/ that writes it."""
    shapes: frozenset[str] | None = None
    """The shapes whose records can have it, for the checks before a run; None: all."""
    is_tested_by_answers: bool = False
    """It is for models that generate answers: they are tested by their answers, on every test row."""


_PREFERENCES = frozenset({"preference", "row"})

FORMS = {
    "answers": Form("answers"),
    "texts": Form("texts", frozenset({"text", "row", "alpaca", "messages", "sharegpt", "prompt_completion"})),
    "labels": Form("labels"),
    "pairs": Form("pairs", _PREFERENCES, is_tested_by_answers=True),
    "ranked": Form("reward_pairs", _PREFERENCES),
    "judged": Form("pairs", frozenset({"kto", "row"}), is_tested_by_answers=True),
    "prompts": Form("prompts", is_tested_by_answers=True),
}
"""Form → what other parts of Strop know of it."""


def unusable_setting(form: str, evaluate: Any) -> str | None:
    """The setting of `evaluate` that needs generated answers, which models trained on this form do not have, if one is set."""
    if evaluate.shots and form != "answers" and not FORMS[form].is_tested_by_answers:
        return "shots"
    if form in ("labels", "ranked"):
        return next((name for name in ("anchors", "lm_eval") if getattr(evaluate, name) is not None), None)
    return None
