"""The checks of `evaluate`: a server that generates answers, the pairwise judge with its rubrics and people's preferences, anchors
and few-shot rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from flows.preflight.checks import unknown_family
from flows.preflight.problem import Problem, error, problems_in, warning
from flows.preflight.project import Project
from tasks.base.settings import is_folder
from tasks.dataset.forms import unusable_setting
from tasks.errors import ConfigError, StropError
from tasks.inference.settings import ServerSettings
from tasks.runtime.redaction.arguments import without_secrets


def judge(project: Project) -> Iterator[Problem]:
    """evaluate.engine: its program and variables. evaluate.judge: each family has templates and a rubric; the preferences, and
    whether the judge can decide."""
    if project.config.evaluate.engine is not None:
        engine = project.config.evaluate.engine
        _require_engine(engine, _has_champion(project))
        if engine.command is not None and without_secrets(engine.command) != list(engine.command):
            what = "has a secret, which becomes part of the version's parameters"
            fix = "Write the name of an environment variable in its place: ${NAME}"
            yield warning(what, project.where("evaluate", "engine", "command"), fix)
    settings = project.config.evaluate.judge
    if settings is None:
        return
    from tasks.evaluate.judge.model_files import find_judge, judge_name
    from tasks.evaluate.judge.round import read_inputs
    from tasks.evaluate.judge.vote import family_objection

    for family in settings.families:
        yield from unknown_family(family, "row", project.where("evaluate", "judge", "families"))
    if settings.base_url is None and is_folder(settings.model):
        find_judge(settings.model)
    inputs = read_inputs(settings)
    if inputs.preferences is None:
        yield warning(
            "the judge only reports: there are no preferences of people",
            settings.preferences,
            "Write them there, or correct evaluate.judge.preferences; docs/judge.md has the format",
        )
    if settings.allow_same_family or "base" not in project.valid_sections:
        return
    if against := family_objection(judge_name(settings), project.config.base.model):
        yield warning(f"the judge only reports: {against}", project.where("evaluate", "judge", "model"))


def further_tests(project: Project) -> Iterator[Problem]:
    """evaluate.anchors: rows of families with templates. Anchors, shots and lm-eval: the candidate generates answers."""
    settings = project.config.evaluate
    if name := unusable_setting(project.config.finetune.forms()[-1], settings):
        what = "needs a model that generates answers, which finetune.objective does not train"
        yield error(what, project.where("evaluate", name), "Remove it, or choose another objective")
    if settings.anchors is None:
        return
    from tasks.prompts.templates.templates import read_templates
    from tasks.render.anchors import read_anchors

    yield from problems_in(partial(read_anchors, Path(settings.anchors), sorted(read_templates())))


def _has_champion(project: Project) -> bool:
    from tasks.model_store.ledger import champion_of, read_ledger

    if "register" not in project.valid_sections:
        return False
    try:
        return champion_of(read_ledger(project.config.register_.model_name)) is not None
    except StropError:  # the check `ledger` reports it
        return False


def _require_engine(settings: ServerSettings, has_champion: bool) -> None:
    """Raises ConfigError for a server that would fail only after the training."""
    where = "evaluate.engine"
    if settings.api_key_env is not None:
        from tasks.inference.endpoint import api_key

        api_key(settings.api_key_env)
    if settings.command is not None and shutil.which(settings.command[0]) is None:
        fix = "Install it in an environment of its own, and set the path of its program"
        raise ConfigError(f"no program `{settings.command[0]}`", where=f"{where}.command", fix=fix)
    roles = {"base", "candidate", *(["champion"] if has_champion else [])}
    if settings.urls is not None and (missing := sorted(roles - set(settings.urls))):
        what = f"has no server of {' and '.join(missing)}"
        raise ConfigError(what, where=f"{where}.urls", fix="Add base_url and model")
