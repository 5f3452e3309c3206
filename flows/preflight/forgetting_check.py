"""The check of anchors and few-shot rows, and of objectives whose models cannot be tested by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.preflight.problem import Problem, error, problems_of
from flows.preflight.project import Project
from tasks.dataset.forms import unusable_setting
from tasks.errors import StropError


def further_tests(project: Project) -> Iterator[Problem]:
    """evaluate.anchors: rows of families with templates. Anchors, shots and lm-eval: the candidate generates answers."""
    settings = project.config.evaluate
    if name := unusable_setting(project.config.finetune.forms()[-1], settings):
        what = "needs a model that generates answers, which finetune.objective does not train"
        yield error(what, project.where("evaluate", name), "Remove it, or choose another objective")
    if settings.anchors is None:
        return
    from tasks.render.anchors import read_anchors
    from tasks.render.templates.templates import read_templates

    try:
        read_anchors(Path(settings.anchors), sorted(read_templates()))
    except StropError as cause:
        yield from problems_of(cause)
