"""Makes an explanation and writes it."""

from __future__ import annotations

from pathlib import Path

from flows.explain.answer import explain_answer
from flows.explain.head import explain_label, explain_reward
from flows.explain.load import load_registered
from flows.explain.subject import Subject
from flows.report.explanation.page import render
from flows.report.explanation.picture import picture
from tasks import paths
from tasks.base.model_kind import REWARD
from tasks.config import PipelineConfig
from tasks.errors import DataError
from tasks.explain.captum_import import captum_attr
from tasks.explain.explanation import Explanation
from tasks.inference.faults import reported_faults
from tasks.runtime.files import write_text


def explain(
    config: PipelineConfig, subject: Subject, version: str, *, passes: int, label: str | None, out: Path | None
) -> tuple[Explanation, Path]:
    """The explanation, and its page; a picture of the same name lies beside it.

    Raises:
        StropError: as the functions of this package.
    """
    captum_attr()  # reported before a model is loaded
    registered = load_registered(config, version)
    with reported_faults(
        registered.label,
        where="strop explain",
        memory_fix="Explain a shorter row, or set evaluate.precision: bf16",
        nan_fix="Explain another version",
    ):
        if registered.labels == REWARD:
            made = explain_reward(registered, subject, config.render)
        elif registered.labels is not None:
            made = explain_label(registered, subject, config.render, label)
        elif label is not None:
            what = f"{registered.label} generates text: it has no labels"
            raise DataError(what, where=f"--label {label}", fix="Leave it out: the model's answer is explained")
        else:
            made = explain_answer(registered, subject, config, passes)
    path = out or paths.EXPLANATIONS / registered.version / f"{subject.name}.html"
    write_text(path, render(made))
    write_text(path.with_suffix(".svg"), picture(made))
    return made, path
