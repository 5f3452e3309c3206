"""The checks that need torch and transformers: they run in a process of their own (process.py), so that a run's process
never imports these. No weights are loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from flows.doctor.finding import GB
from flows.doctor.memory_estimate import Estimate, estimate_training
from flows.preflight.problem import Problem, error, problems_in, problems_of, unexpected, warning
from flows.preflight.project import Location, Project
from tasks import paths
from tasks.errors import StropError, TrainingError
from tasks.finetune.settings import TrainingSettings

FIELD_OF_MODULES = {"freeze": ("freeze",)}
"""Method → the setting that names modules of the base; for the other methods it is `lora.target_modules`."""


def method(project: Project) -> Iterator[Problem]:
    """The training method is supported by the objective and by this machine."""
    from tasks.finetune.model.build import require_method

    for location, training in project.trainings():
        yield from problems_in(partial(require_method, training), project.where(*location, "method"))


def trainer(project: Project) -> Iterator[Problem]:
    """The fields under `finetune.trainer`, and those that a search varies, exist and may be set; their values are valid."""
    finetune = project.config.finetune
    for location, training in project.trainings():
        if training.trainer:  # the import takes seconds
            yield from _invalid_trainer(project, location, training)
    for name in finetune.search.parameters if finetune.search is not None else ():
        if name.startswith("trainer."):
            from tasks.finetune.config.trainer_arguments import invalid_fields

            for _, cause in invalid_fields(finetune.objective, [name.removeprefix("trainer.")]):
                yield from problems_of(cause, project.where("finetune", "search", "parameters", name))


def _invalid_trainer(project: Project, location: Location, training: TrainingSettings) -> Iterator[Problem]:
    from tasks.finetune.config.trainer_arguments import invalid_fields

    invalid = list(invalid_fields(training.objective, training.trainer))
    for name, cause in invalid:
        yield from problems_of(cause, project.where(*location, "trainer", name))
    if not invalid:
        yield from _invalid_values(project, location, training)


def _invalid_values(project: Project, location: Location, training: TrainingSettings) -> Iterator[Problem]:
    """Values that the class of the arguments rejects: it is created as by the training, for numbers of rows that are examples."""
    from tasks.base.pin import BaseRecord
    from tasks.finetune.config.trainer_arguments import parsed_arguments
    from tasks.finetune.work import Work

    if training.spec.sets and training.spec.field_values is None:  # of a plugin
        return
    no_base = BaseRecord(id="", kind="folder", revision=None, files={})
    work = Work(training, no_base, "fp32", paths.CHECKPOINTS)
    parse = partial(parsed_arguments, work, train_rows=1000, valid_rows=100)
    yield from problems_in(parse, project.where(*location, "trainer"))


def schedule(project: Project) -> Iterator[Problem]:
    """The arguments of the learning-rate schedule; without them, params.yaml was checked when it was read."""
    from tasks.finetune.config.lr_schedules import require_schedule

    for location, training in project.trainings():
        if "lr_scheduler_kwargs" in training.trainer:  # the import takes seconds
            yield from problems_in(partial(require_schedule, training), project.where(*location, "schedule"))


def launch(project: Project) -> Iterator[Problem]:
    """The processes, devices and libraries of a distributed training."""
    from tasks.finetune.distributed.launch import require_launch

    try:
        require_launch(project.config.finetune.launch)
    except TrainingError as cause:
        is_setting = cause.where == str(paths.PARAMS)
        yield from problems_of(cause, project.where("finetune", "launch") if is_setting else None)


def precision(project: Project) -> Iterator[Problem]:
    """Whether a precision is only emulated on this machine."""
    from flows.doctor.examine import precision as examine_precision

    finding = examine_precision(project.config)
    if finding.state == "note":
        yield warning(finding.text, None, finding.fix)


def model(project: Project) -> Iterator[Problem]:
    """The base has the modules that the settings name; an estimate of memory and disk."""
    from flows.doctor.examine import read_configuration

    assert project.base is not None  # the check `base` passed
    architecture = read_configuration(project.base)
    estimates: list[Estimate] = []
    for location, training in project.trainings():
        field = FIELD_OF_MODULES.get(training.method, ("lora", "target_modules"))
        try:
            estimate = estimate_training(architecture, training, project.config.render)
        except StropError as cause:
            yield from problems_of(cause, project.where(*location, *field))
            continue
        except Exception as cause:  # noqa: BLE001  transformers cannot build the model from its configuration alone
            yield unexpected(cause)
            continue
        estimates.append(estimate)
        for name in estimate.parameters.unmatched_targets:
            what = f"no module of the base has the name {name}; it gets no adapter"
            yield warning(what, project.where(*location, *field), "Fix the name, or remove it")
    if estimates:
        yield from _memory(estimates)
        yield from _disk(estimates)


def _memory(estimates: list[Estimate]) -> Iterator[Problem]:
    from flows.doctor.examine import training_finding

    finding = training_finding(max(estimates, key=lambda estimate: estimate.memory.total))
    if finding.state != "ok":
        yield warning(finding.text, "params.yaml, finetune", finding.fix)


def _disk(estimates: list[Estimate]) -> Iterator[Problem]:
    """Two checkpoints are kept while a third is written; the model is stored in data/model and copied to the registry."""
    needed = max(3 * estimate.checkpoint_bytes + 2 * estimate.model_bytes for estimate in estimates)
    free = shutil.disk_usage(Path.cwd()).free
    if free < needed:
        what = f"about {needed / GB:.1f} GB are needed for checkpoints and models, and {free / GB:.1f} GB are free"
        yield error(what, str(Path.cwd()), "Free some: dvc gc -w -T, old folders in .strop/")


def teacher(project: Project) -> Iterator[Problem]:
    """The teacher of `distill` exists, and has the base's vocabulary."""
    from tasks.finetune.objectives.distill import require_teacher_in

    assert project.base is not None  # the check `base` passed
    require = partial(require_teacher_in, record=project.base)
    for location, training in project.trainings():
        name = training.distill.teacher
        if training.objective == "distill" and name is not None:
            yield from _named_model(project, (*location, "distill", "teacher"), name, require)


def reward_model(project: Project) -> Iterator[Problem]:
    """The reward models that `grpo` names exist, and are reward models."""
    from tasks.finetune.config.preflight import require_reward_model_in

    for location, training in project.trainings():
        for number, reward in enumerate(training.grpo.rewards if training.objective == "grpo" else ()):
            if reward.model is not None:
                place = (*location, "grpo", "rewards", number)
                yield from _named_model(project, place, reward.model, require_reward_model_in)


def _named_model(project: Project, location: Location, name: str, require: Callable[[Path], None]) -> Iterator[Problem]:
    """The problems of a folder or a registered version, whose weights are checked if they are on this disk."""
    from tasks.ingest.resolve_training_start import weights_of
    from tasks.runtime.run_origin import written_path

    try:
        folder = written_path(name)
        if not folder.is_dir():
            folder = paths.MODELS / weights_of(name, project.config.register_.model_name)
        if folder.is_dir():
            require(folder)
    except StropError as cause:
        yield from problems_of(cause, project.where(*location))


def lm_eval(project: Project) -> Iterator[Problem]:
    """evaluate.lm_eval: the library is installed, and has the tasks."""
    settings = project.config.evaluate.lm_eval
    if settings is None:
        return
    from tasks.evaluate.lm_eval_tasks import require_tasks

    yield from problems_in(partial(require_tasks, settings), project.where("evaluate", "lm_eval"))
