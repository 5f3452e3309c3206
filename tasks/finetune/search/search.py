"""A search: the last training, tried with other settings again and again. The best trial's model is the candidate, as it is.

What a trial trained is, bit for bit, what a training with its settings gives, so nothing is trained once more. Killed and run
again, finished trials are not, and the one under way goes on from its checkpoint (tasks/finetune/search/optuna_study.py).
"""

from __future__ import annotations

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
from tasks.finetune.search.optuna_study import ask, study_of, trial_count, tried
from tasks.finetune.search.trial_results import OUTCOME, Outcome, best_of, read_outcomes, write_outcome
from tasks.runtime.files import folder_digest
from tasks.runtime.progress import print_line

LEAST_FOR_IMPORTANCE = 4
"""Finished trials, below which how much a setting matters is a guess."""


def search(job: Job, settings: SearchSettings, do: Callable[[Job], None]) -> dict[str, Any]:
    """Tries, copies the best trial's model into the job's folder, and gives the facts of its training and of the search.

    Args:
        do: does a job, in however many processes.

    Raises:
        TrainingError: no trial came to its end; or `trainer` has no such field as a parameter names.
        Mishap: something befell the machine; run again, the search goes on.
        Interrupted: a signal ended it; a checkpoint is kept.
    """
    extra = [name.removeprefix("trainer.") for name in settings.parameters if name.startswith("trainer.")]
    require_fields(job.work.settings.objective, extra)
    folder, count, kind = job.work.checkpoints / "search", trial_count(settings), type(job.work.settings)
    for number in range(count):
        if not (folder / f"trial-{number}" / OUTCOME).is_file():
            _, values = ask(settings, kind, folder, number)
            _try(job, settings, number, values, count, do)
            told = read_outcomes(folder, number + 1)[-1]
            print_line(f"finetune: trial {number + 1} of {count} {_told(told)}")
        _keep_best(folder, number + 1)
    outcomes = read_outcomes(folder, count)
    best = best_of(outcomes)
    if best is None:
        first = next((each.told for each in outcomes if each.told), "every trial failed")
        fix = "Narrow finetune.search.parameters to what can be trained, then run again"
        raise TrainingError(f"no trial came to its end: {first}", where="finetune.search", fix=fix)
    _require_whole(folder / f"trial-{best.number}", best)
    shutil.rmtree(job.folder, ignore_errors=True)
    shutil.copytree(folder / f"trial-{best.number}" / "model", job.folder)
    study = study_of(settings, kind, outcomes, count)
    return {**best.facts, "search": _facts(settings, outcomes, best, _importance(study, outcomes))}


def _try(
    job: Job, search: SearchSettings, number: int, values: dict[str, Any], count: int, do: Callable[[Job], None]
) -> None:
    """Trains with the values, unless an earlier trial did; how it ended is then written."""
    folder = job.work.checkpoints / "search"
    done = read_outcomes(folder, number)
    if (same := next((each for each in done if each.parameters == values and each.same_as is None), None)) is not None:
        known = replace(same, number=number, same_as=same.number, facts={})
        write_outcome(folder, replace(known, state="repeated") if same.state == "complete" else known)
        return
    shown = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
    print_line(f"finetune: trial {number + 1} of {count}: {shown}")
    place = folder / f"trial-{number}"
    try:
        chosen = with_values(job.work.settings, tried(search, type(job.work.settings), values))
        require_method(chosen)
        work = replace(job.work, settings=chosen, precision=precision_of(chosen.precision), checkpoints=place)
        do(Job(work, place / "model", job.chat_template, search, number))
    except Mishap:
        raise
    except TrainingError as error:
        write_outcome(folder, Outcome(number, values, "failed", told=str(error)))
    except ValidationError as error:
        write_outcome(folder, Outcome(number, values, "failed", told=error.errors()[0]["msg"]))
    except (ValueError, ImportError) as error:  # an optimiser tells so what it does not take
        told = one_line(error)
        write_outcome(folder, Outcome(number, values, "failed", told=told))


def _keep_best(folder: Path, until: int) -> None:
    """Of the finished trials only how they ended is kept, and the best one's model."""
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


def _require_whole(trial: Path, best: Outcome) -> None:
    """Raises Mishap where the model of the best trial is not what it saved; the trial is then done again."""
    model = trial / "model"
    if model.is_dir() and folder_digest(model) == best.model:
        return
    (trial / OUTCOME).unlink()
    shutil.rmtree(model, ignore_errors=True)
    what = f"the model of trial {best.number + 1}, the best, is damaged"
    raise Mishap(what, where=str(trial), fix="Run again: this trial is done once more")


def _importance(study: Any, outcomes: list[Outcome]) -> dict[str, float]:
    """How much each setting matters to the validation loss, as shares (PED-ANOVA, Watanabe et al., 2023)."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    varied = {str(each.parameters) for each in outcomes if each.value is not None}
    if len(varied) < LEAST_FOR_IMPORTANCE:
        return {}
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: round(float(share), 6) for name, share in found.items()}


def _facts(
    search: SearchSettings, outcomes: list[Outcome], best: Outcome, importance: dict[str, float]
) -> dict[str, Any]:
    """For the receipt, and for the pictures."""
    trials = []
    for each in outcomes:
        told: dict[str, Any] = {
            "number": each.number,
            "state": each.state,
            "parameters": each.parameters,
            "valid_loss": each.value,
        }
        told |= {"valid_losses": each.valid_losses}
        told |= {"told": each.told} if each.told else {}
        told |= {"same_as": each.same_as} if each.same_as is not None else {}
        trials.append(told)
    chosen = {"trial": best.number, "parameters": best.parameters, "valid_loss": best.value}
    return {"sampler": search.sampler, "best": chosen, "importance": importance, "trials": trials}


def _told(outcome: Outcome) -> str:
    if outcome.state == "stopped":
        return f"was stopped at step {max(map(int, outcome.valid_losses))}: others were better there"
    if outcome.state == "failed":
        return f"failed: {outcome.told}"
    same = f" is trial {outcome.same_as + 1} again" if outcome.same_as is not None else ""
    return f"ended{same} with validation loss {outcome.value:.4f}" if not same else f"{same.strip()}: {outcome.value}"
