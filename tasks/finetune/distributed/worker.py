"""One process of a distributed training: `python -m tasks.finetune.distributed.worker JOB`, started by launch.py."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from tasks import errors
from tasks.base.pin import read_base
from tasks.errors import StropError, TrainingError
from tasks.finetune.config.search_settings import SearchSettings
from tasks.finetune.failures import Mishap, report_full_disk
from tasks.finetune.job import Job, run_job
from tasks.finetune.loop.signals import Interrupted
from tasks.finetune.process_group import destroy_group, process_rank
from tasks.finetune.settings import FinetuneSettings, TrainingSettings
from tasks.finetune.step.gpu_kernels import be_deterministic
from tasks.finetune.work import Work
from tasks.runtime.files import read_json, write_json
from tasks.runtime.plugins import load_plugins, plugin_names


def main() -> int:
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.parent_watchdog import SECONDS_TO_SAVE, end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs(
        "finetune", stream="stdout"
    )  # launch.py connects it to its own standard error; libraries write to a file
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.simplefilter("ignore", FutureWarning)
    end_with_parent(SECONDS_TO_SAVE)
    path = Path(sys.argv[1])
    job = read_job(path)
    try:
        if job.work.settings.deterministic:
            be_deterministic()
        with report_full_disk(job.work.checkpoints):
            run_job(job)
    except StropError as error:
        write_json(error_file(path, process_rank()), _entry(error))
        return error.exit_code
    except OSError as error:
        if (message := errors.disk_message(error)) is None:
            raise
        write_json(error_file(path, process_rank()), _entry(Mishap(message)))
        return 1
    destroy_group()
    return 0


def write_job(job: Job, node: int) -> Path:
    """Writes the job file for the processes of a node; returns its path."""
    work = job.work
    path = work.checkpoints / f"job-{node}.json"
    entry: dict[str, Any] = {
        "plugins": plugin_names(),
        "settings": work.settings.model_dump(mode="json"),
        "is_last": isinstance(work.settings, FinetuneSettings),
        "precision": work.precision,
        "checkpoints": str(work.checkpoints),
        "start": work.start and str(work.start),
        "reward_model": work.reward_model and str(work.reward_model),
        "before": work.before,
        "thread_log": work.thread_log and str(work.thread_log),
        "folder": str(job.folder),
        "chat_template": job.chat_template,
        "search": job.search and job.search.model_dump(mode="json"),
        "trial": job.trial,
    }
    write_json(path, entry)
    return path


def read_job(path: Path) -> Job:
    """The job that `write_job` wrote; loads its plugins, which its settings may name."""
    entry = read_json(path)
    load_plugins(entry["plugins"], Path.cwd())
    kind = FinetuneSettings if entry["is_last"] else TrainingSettings
    work = Work(
        kind.model_validate_json(json.dumps(entry["settings"])),
        read_base(),
        entry["precision"],
        Path(entry["checkpoints"]),
        entry["start"] and Path(entry["start"]),
        entry["reward_model"] and Path(entry["reward_model"]),
        entry["before"],
        entry["thread_log"] and Path(entry["thread_log"]),
    )
    search = entry["search"] and SearchSettings.model_validate_json(json.dumps(entry["search"]))
    return Job(work, Path(entry["folder"]), entry["chat_template"], search, entry["trial"])


def error_file(job: Path, number: int) -> Path:
    """The file in which process `number` stores its error."""
    return job.with_name(f"process-{number}.error.json")


def log_file(job: Path, number: int) -> Path:
    """The file with the output of process `number`."""
    return job.with_name(f"process-{number}.log")


def _entry(error: StropError) -> dict[str, Any]:
    entry = {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}
    return {**entry, "interrupted": [error.step, error.number] if isinstance(error, Interrupted) else None}


def error_from(entry: dict[str, Any]) -> StropError:
    """The error that a process stored."""
    if entry["interrupted"] is not None:
        return Interrupted(*entry["interrupted"])
    kind: type[StropError] = (
        Mishap if entry["kind"] == Mishap.__name__ else getattr(errors, entry["kind"], TrainingError)
    )
    return kind(entry["what"], where=entry["where"], fix=entry["fix"])


if __name__ == "__main__":
    sys.exit(main())
