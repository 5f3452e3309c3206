"""Room `finetune`: rendered rows → data/model. The same command on a CPU and a GPU. Run: `python -m tasks finetune`

A killed training resumes from its last checkpoint when it is run again.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.pin import read_base
from tasks.base.precision import precision_of, warn_of_emulation
from tasks.finetune.config.lr_schedules import require_schedule
from tasks.finetune.config.preflight import require_reward_models
from tasks.finetune.config.trainer_arguments import require_fields
from tasks.finetune.distributed.launch import launch, node_number, require_launch
from tasks.finetune.failures import report_full_disk
from tasks.finetune.job import Job, read_facts, read_verified_facts, run_job
from tasks.finetune.loop.checkpoints import checkpoint_folder
from tasks.finetune.loop.thread_log import ThreadLog
from tasks.finetune.model.build import require_method
from tasks.finetune.search.search import search
from tasks.finetune.step.gpu_kernels import be_deterministic
from tasks.finetune.work import Work
from tasks.runtime.files import write_json
from tasks.state.training_start import start_folder

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.finetune.settings import FinetuneSettings

logger = logging.getLogger(__name__)


def run(config: PipelineConfig) -> None:
    """Writes data/model and data/reports/training.json.

    Raises:
        TrainingError: out of memory, the loss is not finite, or another process runs the same training; or, before the first
            training begins, a setting of any of them is invalid.
        Interrupted: a signal ended it; a checkpoint is saved.
        DataError: no rows for an objective, no such teacher, or early stopping without validation rows.
    """
    trainings = config.finetune.trainings()
    for settings in trainings:
        require_method(settings)
        require_reward_models(settings)
        if settings.trainer:
            require_fields(settings.objective, settings.trainer)
        require_schedule(settings)
    if any(settings.deterministic for settings in trainings):
        be_deterministic()
    require_launch(config.finetune.launch)
    for precision in config.finetune.precisions():
        warn_of_emulation("finetune", "finetune.precision", precision)
    record = read_base()
    for settings in trainings:
        if settings.spec.require is not None:
            getattr(importlib.import_module(settings.spec.module), settings.spec.require)(settings, record)
    facts: list[dict[str, Any]] = []
    start, reward_model = start_folder(), None
    is_first_node = node_number() == 0  # only the first node writes
    locked_folder = checkpoint_folder(config, record.digest, is_first_node)
    with locked_folder as checkpoints, report_full_disk(checkpoints):
        for number, settings in enumerate(trainings, 1):
            is_last = number == len(trainings)
            work = Work(
                settings,
                record,
                precision=precision_of(settings.precision),
                checkpoints=checkpoints if is_last else checkpoints / f"training-{number}",
                start=start,
                reward_model=reward_model,
                before=None if is_last else number,
                thread_log=checkpoints / "threads.json",
            )
            folder = paths.MODEL if is_last else work.checkpoints / "model"
            if len(trainings) > 1:
                logger.info(f"finetune: training {number} of {len(trainings)}, objective {settings.objective}")
            facts.append(_run_unless_finished(Job(work, folder, config.base.chat_template), config.finetune))
            if settings.spec.head == "reward":
                reward_model = folder
            else:
                start = folder
        if is_first_node:
            thread_facts = ThreadLog(checkpoints / "threads.json").facts()
            write_json(
                paths.TRAINING_REPORT, {**facts[-1], **({"before": facts[:-1]} if facts[:-1] else {}), **thread_facts}
            )


def _run_unless_finished(job: Job, settings: FinetuneSettings) -> dict[str, Any]:
    """The report of a training, which runs unless an earlier run finished it."""
    if job.folder != paths.MODEL and (facts := read_verified_facts(job)) is not None:
        return facts  # a finished earlier training is kept while the later ones run

    def run_in_processes(job: Job) -> None:
        if settings.launch.all_processes == 1:
            run_job(job)
        else:
            launch(job, settings.launch)

    if job.folder == paths.MODEL and settings.search is not None:
        return search(job, settings.search, run_in_processes)
    run_in_processes(job)
    facts = read_facts(job)
    assert facts is not None or node_number() > 0
    return facts or {}
