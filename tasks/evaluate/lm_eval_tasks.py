"""Tasks of lm-eval (`evaluate.lm_eval`): the harness itself, in this process, on the loaded model with its adapter. No network.

Results are cached by model, task files and settings, so that the next round's champion is not tested again. A task that fails has
no numbers, but a `problem`; the evaluation continues.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from tasks.base.precision import precision_of
from tasks.errors import ConfigError, one_line
from tasks.evaluate.forgetting_settings import FOLDER, LmEvalSettings
from tasks.evaluate.inference import LazyModel
from tasks.evaluate.perplexity import max_input_tokens
from tasks.evaluate.prediction_cache import PredictionCache, model_key
from tasks.evaluate.predictions import EvaluationTask
from tasks.runtime.files import file_digest
from tasks.runtime.import_closure import closure_digest

logger = logging.getLogger(__name__)

Entry = dict[str, Any]
"""Of a task: `rows`, and by metric `score`, `stderr` and `values` (of rows; empty if the score is not their mean); or `problem`."""

_NO_NETWORK = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def require_tasks(settings: LmEvalSettings) -> None:
    """Checks that lm-eval is installed and knows the tasks.

    Raises:
        ConfigError: otherwise.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError("lm-eval is not installed", where="evaluate.lm_eval", fix="Install it: pip install lm-eval")
    if settings.include_path is not None and not Path(settings.include_path).is_dir():
        raise ConfigError("no such folder", where=settings.include_path, fix="Correct evaluate.lm_eval.include_path")
    known = _task_manager(settings).all_tasks
    if unknown := [name for name in settings.tasks if name not in known]:
        where = settings.include_path or "lm-eval"
        fix = "Correct evaluate.lm_eval.tasks, or write the task's YAML file below evaluate.lm_eval.include_path"
        raise ConfigError(f"no task {', '.join(unknown)} in {where}", where="evaluate.lm_eval.tasks", fix=fix)


def describe_tasks(settings: LmEvalSettings) -> Entry:
    """The entry `lm_eval` of metrics.json: version, settings, and the digests of the task files."""
    return {"version": version("lm_eval"), **settings.model_dump(mode="json"), "files": _digests(settings)}


def run_tasks(model: LazyModel, task: EvaluationTask) -> dict[str, Entry]:
    """Task → the numbers of the model; a group of tasks has those of its members, too."""
    settings = task.settings.lm_eval
    assert settings is not None
    cache = PredictionCache(_cache_key(model, task, settings), pa.string())
    results: dict[str, Entry] = {}
    harness = None
    for name in settings.tasks:
        if name not in cache.values:
            harness = harness or _Harness(model(), task, settings)
            try:
                cache.add({name: json.dumps(harness.run(name))})
            except (torch.OutOfMemoryError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001
                problem = one_line(f"{type(error).__name__}: {error}")
                logger.warning(f"evaluate: lm-eval's task {name} failed for the {model.spec.role}: {problem}")
                results[name] = {"rows": 0, "problem": problem}
                continue
            cache.save()
        results |= json.loads(cache.values[name])
    return results


class _Harness:
    """lm-eval with a loaded model."""

    def __init__(self, model: Any, task: EvaluationTask, settings: LmEvalSettings) -> None:
        from lm_eval.models.huggingface import HFLM

        self.settings, self.task, self.tasks = settings, task, _task_manager(settings)
        tokenizer = copy.deepcopy(task.tokenizer)  # the harness sets its padding
        positions = max_input_tokens(model)
        self.model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=settings.batch_rows, max_length=positions)

    def run(self, name: str) -> dict[str, Entry]:
        from lm_eval import simple_evaluate

        seed, settings = self.task.settings.seed, self.settings
        with _offline(), redirect_stdout(io.StringIO()):
            results = simple_evaluate(
                model=self.model,
                tasks=[name],
                task_manager=self.tasks,
                num_fewshot=settings.num_fewshot,
                limit=settings.limit,
                bootstrap_iters=self.task.settings.bootstrap_samples,
                apply_chat_template=settings.apply_chat_template,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        entries = {
            each: _entry(measured, results["samples"].get(each, [])) for each, measured in results["results"].items()
        }
        return {each: entry for each, entry in entries.items() if len(entry) > 1}


def _entry(measured: dict[str, Any], samples: list[dict[str, Any]]) -> Entry:
    """A task's numbers, from those of the harness: `acc,none`, `acc_stderr,none`, `alias`, ..."""
    entry: Entry = {"rows": int(measured.get("sample_len", 0))}
    for key, score in measured.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or isinstance(score, bool | str):
            continue
        name = re.sub(r"\W", "_", metric if filtered == "none" else f"{metric}_{filtered}")
        if not math.isfinite(score):
            entry["problem"] = f"{name} is {score}"
            continue
        stderr = measured.get(f"{metric}_stderr,{filtered}")
        values = [
            row[metric] for row in samples if row["filter"] == filtered and isinstance(row.get(metric), int | float)
        ]
        is_mean = bool(values) and math.isclose(sum(values) / len(values), score, abs_tol=1e-9)
        entry[name] = {
            "score": float(score),
            "stderr": float(stderr) if isinstance(stderr, float) and math.isfinite(stderr) else None,
            "values": [float(value) for value in values] if is_mean else [],
        }
    return entry


def _task_manager(settings: LmEvalSettings) -> Any:
    from lm_eval.tasks import TaskManager

    try:
        if settings.include_path is not None:
            own = TaskManager(include_path=settings.include_path, include_defaults=False)
            if set(settings.tasks) <= set(own.all_tasks):
                return own  # the harness's own list of tasks takes seconds to read
        return TaskManager(include_path=settings.include_path)
    except Exception as error:
        where = settings.include_path or "evaluate.lm_eval"
        raise ConfigError(f"lm-eval cannot read the tasks ({one_line(error)})", where=where, fix="Fix them") from error


def _cache_key(model: LazyModel, task: EvaluationTask, settings: LmEvalSettings) -> str:
    precision, code = precision_of(task.settings.precision), closure_digest("tasks/evaluate/lm_eval_tasks.py")
    more = [version(name) for name in ("lm_eval", "datasets")]
    how = settings.model_dump(mode="json", exclude={"tasks"})
    numbers = [task.settings.seed, task.settings.bootstrap_samples]
    return model_key(
        "lm_eval", task.base_digest, model.spec.digest, precision, code, more, how, numbers, _digests(settings)
    )


def _digests(settings: LmEvalSettings) -> dict[str, str]:
    """File of data/forgetting, where tasks of `include_path` have their data → its digest."""
    files = sorted(path for path in Path(FOLDER).rglob("*") if path.is_file()) if settings.include_path else []
    return {path.as_posix(): file_digest(path) for path in files}


@contextmanager
def _offline() -> Iterator[None]:
    """Hugging Face's libraries, which read their environment at import, make no request; lm-eval starts no processes."""
    from datasets import config
    from huggingface_hub import constants

    before = [
        (module, name, getattr(module, name))
        for module in (config, constants)
        for name in _NO_NETWORK
        if hasattr(module, name)
    ]
    environment = os.environ.get("DISABLE_MULTIPROC")
    for module, name, _ in before:
        setattr(module, name, True)
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        if environment is None:
            del os.environ["DISABLE_MULTIPROC"]
