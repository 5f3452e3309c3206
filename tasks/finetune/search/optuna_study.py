"""Proposes the values of a trial, which depend only on the seed and the results of earlier trials.

The study is rebuilt from these for each trial. So a search that is killed and run again tries the same values.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.finetune.config.search_settings import SearchSettings, as_type, number_type
from tasks.finetune.search.trial_results import Outcome, read_outcomes
from tasks.finetune.settings import TrainingSettings

if TYPE_CHECKING:
    import optuna


def trial_count(search: SearchSettings) -> int:
    """Number of trials; a grid may have fewer than `trials`."""
    combinations = math.prod(len(values.choices or ()) for values in search.parameters.values())
    return min(search.trials, combinations) if search.sampler == "grid" else search.trials


def propose(
    search: SearchSettings, kind: type[TrainingSettings], folder: Path, number: int
) -> tuple[optuna.Trial, dict[str, Any]]:
    """Optuna's trial, and the values that it proposes, by the settings' names."""
    study = study_of(search, kind, read_outcomes(folder, number), number)
    distributions = _distributions(search, kind)
    if search.sampler == "grid":
        study.enqueue_trial(_grid_point(search, number))
    trial = study.ask(distributions)
    choices = _choices(search)
    return trial, {name: json.loads(value) if name in choices else value for name, value in trial.params.items()}


def study_of(
    search: SearchSettings, kind: type[TrainingSettings], outcomes: list[Outcome], number: int
) -> optuna.Study:
    """The study with all finished trials, ready to propose trial `number`."""
    import numpy as np
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    sampler: optuna.samplers.BaseSampler = (
        optuna.samplers.TPESampler(n_startup_trials=search.random_trials, seed=seed)
        if search.sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    pruner: optuna.pruners.BasePruner = (
        optuna.pruners.MedianPruner(n_startup_trials=search.trials_before_pruning)
        if search.pruner == "median"
        else optuna.pruners.NopPruner()
    )
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    distributions = _distributions(search, kind)
    choices = _choices(search)
    for outcome in outcomes:
        is_complete = outcome.value is not None
        state = optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.PRUNED
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=outcome.value,
                params={n: json.dumps(v) if n in choices else v for n, v in outcome.parameters.items()},
                distributions=distributions,
                intermediate_values={int(step): loss for step, loss in outcome.valid_losses.items()},
            )
        )
    return study


def _distributions(search: SearchSettings, kind: type[TrainingSettings]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    distributions: dict[str, Any] = {}
    for name, values in search.parameters.items():
        number = number_type(kind, name, values)
        if values.choices:
            distributions[name] = CategoricalDistribution([json.dumps(choice) for choice in values.choices])
        elif number is int:
            distributions[name] = IntDistribution(int(values.low or 0), int(values.high or 0), log=values.log)
        else:
            distributions[name] = FloatDistribution(float(values.low or 0), float(values.high or 0), log=values.log)
    return distributions


def _choices(search: SearchSettings) -> set[str]:
    """The settings whose values Optuna gets as JSON."""
    return {name for name, values in search.parameters.items() if values.choices}


def _grid_point(search: SearchSettings, number: int) -> dict[str, str]:
    """The combination of choices with that number, in an order shuffled by the seed."""
    import numpy as np

    combinations = list(itertools.product(*(values.choices or () for values in search.parameters.values())))
    index = np.random.default_rng(search.seed).permutation(len(combinations))[number]
    return {name: json.dumps(value) for name, value in zip(search.parameters, combinations[index], strict=True)}


def typed_values(search: SearchSettings, kind: type[TrainingSettings], values: dict[str, Any]) -> dict[str, Any]:
    """The values in the types of the settings."""
    return {name: as_type(value, number_type(kind, name, search.parameters[name])) for name, value in values.items()}
