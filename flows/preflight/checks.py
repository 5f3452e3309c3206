"""The checks that read files of the project: quick, and without torch. One function a check; the table is in table.py."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from functools import partial

from flows.preflight.problem import Problem, error, problems_in, problems_of, warning
from flows.preflight.project import Location, Project
from tasks import paths
from tasks.dataset.forms import FORMS
from tasks.ingest.settings import Source

SOURCE_ADDRESSES = ("path", "storage_options", "url", "tracking_uri")
"""Settings of a source in which `${NAME}` is replaced by an environment variable."""


def params(project: Project) -> Iterator[Problem]:
    """params.yaml: unknown settings, invalid values and combinations, plugins, secrets."""
    if project.invalid is not None:
        yield from problems_of(project.invalid)


def git(project: Project) -> None:
    """The repository, in which every version is recorded."""
    from tasks.vcs.git import require_repository

    require_repository()


def dvc(project: Project) -> None:
    """DVC's own files, and secrets in its configuration."""
    from tasks.vcs.dvc_outputs import output_hashes
    from tasks.vcs.dvc_pipeline import require_private_secrets

    require_private_secrets()
    output_hashes()


def ledger(project: Project) -> None:
    """The promotion ledger of the model."""
    from tasks.model_store.ledger import read_ledger

    read_ledger(project.config.register_.model_name)


def raw_data(project: Project) -> None:
    """The rows that were collected earlier are unchanged."""
    from tasks.ingest.changes.intact import require_intact
    from tasks.ingest.sources import require_raw

    require_raw()
    require_intact()


def contract(project: Project) -> Iterator[Problem]:
    """data/contract: rules and bounds, for families with templates."""
    from tasks.validate.load_contract import load_contract

    for family in load_contract().families:
        fix = f"Write {paths.TEMPLATES}/{family}.yaml, or remove it"
        yield from unknown_family(family, "source", f"{paths.CONTRACT.parent}, families.{family}", fix)


def unknown_family(family: str, what: str, where: str, fix: str | None = None) -> Iterator[Problem]:
    """A family without templates is probably misspelled."""
    known = sorted(path.stem for path in paths.TEMPLATES.glob("*.yaml"))
    if family not in known:
        near = difflib.get_close_matches(family, known, n=1)
        fix = f"Did you mean `{near[0]}`?" if near else fix or f"The families are {', '.join(known)}"
        yield warning(f"family `{family}` has no templates, so no {what} can have it", where, fix)


def templates(project: Project) -> None:
    """data/templates: one file a family."""
    from tasks.prompts.templates.templates import read_templates

    read_templates()


def environment(project: Project) -> Iterator[Problem]:
    """Every environment variable that a setting names is set."""
    for location, name in _missing_variables(project):
        fix = f"Set it before the run: export {name}=…"
        yield error(f"the environment variable {name} is not set", project.where(*location), fix)


def missing_variables_of(project: Project, location: Location) -> bool:
    """Whether a setting below the location names a variable that is not set."""
    return any(each[: len(location)] == location for each, _ in _missing_variables(project))


def _missing_variables(project: Project) -> Iterator[tuple[Location, str]]:
    from tasks.runtime.redaction.settings import variables_in

    settings: list[tuple[Location, object]] = []
    if "ingest" in project.valid_sections:
        for location, source in project.sources():
            settings += [((*location, field), getattr(source, field)) for field in SOURCE_ADDRESSES]
    if "register" in project.valid_sections and not os.environ.get("MLFLOW_TRACKING_URI"):
        settings.append((("register", "tracking_uri"), project.config.register_.tracking_uri))
    evaluate = project.config.evaluate if "evaluate" in project.valid_sections else None
    if evaluate is not None and (judge := evaluate.judge) is not None:
        settings.append((("evaluate", "judge", "base_url"), judge.base_url))
        if judge.api_key_env is not None:
            settings.append((("evaluate", "judge", "api_key_env"), f"${{{judge.api_key_env}}}"))
    engine = project.config.evaluate.engine if "evaluate" in project.valid_sections else None
    if engine is not None:
        settings.append((("evaluate", "engine", "command"), list(engine.command or ())))
        for role, served in (engine.urls or {}).items():
            settings.append((("evaluate", "engine", "urls", role, "base_url"), served.base_url))
    for location, value in settings:
        for name in variables_in(value):
            if name not in os.environ:
                yield location, name


def formats(project: Project) -> Iterator[Problem]:
    """Each objective has a source whose rows can have its form; for `classify`, one with a family of classes."""
    from tasks.state.manifest import read_manifest

    sources = [(location, source) for location, source in project.sources() if source.use == "train"]
    if not sources or not project.has_all_sources:
        return
    report = warning if read_manifest() else error  # rows that were collected earlier may have it
    for form in project.config.finetune.forms():
        shapes = FORMS[form].shapes
        if shapes is not None and not any(source.shape in shapes for _, source in sources):
            what = f"an objective needs rows of the form `{form}`, and no source has a shape with it"
            fix = f"Add a source of shape {' or '.join(sorted(shapes - {'row'}))}, or choose another finetune.objective"
            yield report(what, project.where("ingest", "sources"), fix)
        if form == "labels":
            yield from _without_labels(project, sources)


def _without_labels(project: Project, sources: list[tuple[Location, Source]]) -> Iterator[Problem]:
    from tasks.prompts.templates.templates import read_templates
    from tasks.scoring.metrics import class_kinds

    families, kinds = read_templates(), class_kinds()
    trained = [(location, families.get(source.family)) for location, source in sources]
    others = [(location, family.kind) for location, family in trained if family and family.kind not in kinds]
    for location, kind in others:
        what = f"objective: classify trains on families of kind {' or '.join(kinds)}, and this one is of kind {kind}"
        report = error if len(others) == len(trained) else warning
        yield report(what, project.where(*location, "family"), "Choose another family, or finetune.objective: sft")


def disk(project: Project) -> Iterator[Problem]:
    """Some free space; what the training itself needs is in `model`."""
    from flows.doctor.finding import disk as examine_disk

    finding = examine_disk()
    if finding.state == "wrong":
        yield warning(finding.text, None, finding.fix)


def code_execution(project: Project) -> Iterator[Problem]:
    """Code that models write can be isolated on this machine, if it is to be executed."""
    from tasks.sandbox.run_programs import Limits, open_sandbox

    settings: list[Location] = [("evaluate", "code", "execute")] if project.config.evaluate.code.execute else []
    if "finetune" in project.valid_sections:
        settings += [
            (*location, "grpo", "rewards")
            for location, training in project.trainings()
            if any(reward.kind == "tests" for reward in training.grpo.rewards)
        ]
    for setting in settings:
        yield from problems_in(partial(open_sandbox, Limits(), 1, setting=project.where(*setting)))
