"""A search repeats the last training with other settings. The best trial's model is the candidate.

A trial's model is bit-identical to that of a training with its settings, so the best one is not trained again. When a killed search
is run again, finished trials are kept, and the current one resumes from its checkpoint (tasks/finetune/search/optuna_study.py).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.base.precision import precision_of
from tasks.errors import TrainingError, one_line
from tasks.finetune.config.search_settings import SearchSettings, with_values
from tasks.finetune.config.trainer_arguments import require_fields
from tasks.finetune.failures import Mishap
from tasks.finetune.job import Job
from tasks.finetune.model.build import require_method
from tasks.finetune.search.optuna_study import propose, study_of, trial_count, typed_values
from tasks.finetune.search.trial_results import OUTCOME, Outcome, best_of, read_outcomes, write_outcome
from tasks.runtime.files import folder_digest

logger = logging.getLogger(__name__)

MIN_TRIALS_FOR_IMPORTANCE = 4
"""Below this number of finished trials, importances are not meaningful."""


def search(job: Job, settings: SearchSettings, run: Callable[[Job], None]) -> dict[str, Any]:
    """Runs all trials, copies the best one's model into the job's folder, and returns the report of its training and the search.

    Args:
        run: runs a job, in one or several processes.

    Raises:
        TrainingError: no trial completed; or a parameter names an unknown field of `trainer`.
        Mishap: a failure of the machine; another run resumes the search.
        Interrupted: a signal ended it; a checkpoint is saved.
    """
    extra = [name.removeprefix("trainer.") for name in settings.parameters if name.startswith("trainer.")]
    require_fields(job.work.settings.objective, extra)
    folder, count, kind = job.work.checkpoints / "search", trial_count(settings), type(job.work.settings)
    for number in range(count):
        if not (folder / f"trial-{number}" / OUTCOME).is_file():
            _, values = propose(settings, kind, folder, number)
            _run_trial(job, settings, number, values, count, run)
            outcome = read_outcomes(folder, number + 1)[-1]
            logger.info(f"finetune: trial {number + 1} of {count} {_describe(outcome)}")
        _keep_best(folder, number + 1)
    outcomes = read_outcomes(folder, count)
    best = best_of(outcomes)
    if best is None:
        first = next((outcome.failure for outcome in outcomes if outcome.failure), "every trial failed")
        fix = "Restrict finetune.search.parameters to valid values, then run again"
        raise TrainingError(f"no trial completed: {first}", where="finetune.search", fix=fix)
    _require_intact(folder / f"trial-{best.number}", best)
    shutil.rmtree(job.folder, ignore_errors=True)
    shutil.copytree(folder / f"trial-{best.number}" / "model", job.folder)
    study = study_of(settings, kind, outcomes, count)
    return {**best.facts, "search": _facts(settings, outcomes, best, _importance(study, outcomes))}


def _run_trial(
    job: Job, search: SearchSettings, number: int, values: dict[str, Any], count: int, run: Callable[[Job], None]
) -> None:
    """Trains with the values, unless an earlier trial did, and stores the outcome."""
    folder = job.work.checkpoints / "search"
    finished = read_outcomes(folder, number)
    if (same := next((o for o in finished if o.parameters == values and o.same_as is None), None)) is not None:
        repeated = replace(same, number=number, same_as=same.number, facts={})
        write_outcome(folder, replace(repeated, state="repeated") if same.state == "complete" else repeated)
        return
    shown = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
    logger.info(f"finetune: trial {number + 1} of {count}: {shown}")
    trial_folder = folder / f"trial-{number}"
    try:
        settings = with_values(job.work.settings, typed_values(search, type(job.work.settings), values))
        require_method(settings)
        precision = precision_of(settings.precision)
        work = replace(job.work, settings=settings, precision=precision, checkpoints=trial_folder)
        run(Job(work, trial_folder / "model", job.chat_template, search, number))
    except Mishap:
        raise
    except TrainingError as error:
        write_outcome(folder, Outcome(number, values, "failed", failure=str(error)))
    except ValidationError as error:
        write_outcome(folder, Outcome(number, values, "failed", failure=error.errors()[0]["msg"]))
    except (ValueError, ImportError) as error:  # raised by an optimiser for an invalid setting
        write_outcome(folder, Outcome(number, values, "failed", failure=one_line(error)))


def _keep_best(folder: Path, until: int) -> None:
    """Keeps only the outcomes of the finished trials, and the best one's model."""
    outcomes = read_outcomes(folder, until)
    best = best_of(outcomes)
    for outcome in outcomes:
        for path in (folder / f"trial-{outcome.number}").iterdir():
            is_kept = path.name == OUTCOME or (
                best is not None and outcome.number == best.number and path.name == "model"
            )
            if path.is_dir() and not is_kept:
                shutil.rmtree(path)
            elif not is_kept:
                path.unlink()


def _require_intact(trial: Path, best: Outcome) -> None:
    """Raises Mishap where the saved model of the best trial is damaged; the trial is then run again."""
    model = trial / "model"
    if model.is_dir() and folder_digest(model) == best.model:
        return
    (trial / OUTCOME).unlink()
    shutil.rmtree(model, ignore_errors=True)
    what = f"the model of trial {best.number + 1}, the best, is damaged"
    raise Mishap(what, where=str(trial), fix="Run again: this trial is repeated")


def _importance(study: Any, outcomes: list[Outcome]) -> dict[str, float]:
    """Importance of each setting for the validation loss, as shares (PED-ANOVA, Watanabe et al., 2023)."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    distinct = {str(outcome.parameters) for outcome in outcomes if outcome.value is not None}
    if len(distinct) < MIN_TRIALS_FOR_IMPORTANCE:
        return {}
    importances = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(float(share), 6) for name, share in importances.items()}


def _facts(
    search: SearchSettings, outcomes: list[Outcome], best: Outcome, importance: dict[str, float]
) -> dict[str, Any]:
    """For the receipt and the plots."""
    trials = []
    for outcome in outcomes:
        entry: dict[str, Any] = {
            "number": outcome.number,
            "state": outcome.state,
            "parameters": outcome.parameters,
            "valid_loss": outcome.value,
        }
        entry |= {"valid_losses": outcome.valid_losses}
        entry |= {"told": outcome.failure} if outcome.failure else {}
        entry |= {"same_as": outcome.same_as} if outcome.same_as is not None else {}
        trials.append(entry)
    best_trial = {"trial": best.number, "parameters": best.parameters, "valid_loss": best.value}
    return {"sampler": search.sampler, "best": best_trial, "importance": importance, "trials": trials}


def _describe(outcome: Outcome) -> str:
    if outcome.state == "stopped":
        return f"was stopped at step {max(map(int, outcome.valid_losses))}: others were better there"
    if outcome.state == "failed":
        return f"failed: {outcome.failure}"
    same = f" is trial {outcome.same_as + 1} again" if outcome.same_as is not None else ""
    return f"ended{same} with validation loss {outcome.value:.4f}" if not same else f"{same.strip()}: {outcome.value}"
