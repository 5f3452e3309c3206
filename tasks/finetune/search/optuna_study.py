"""What a trial of a search tries: it follows from the seed and from how the trials before it ended, and from nothing else.

The study is made anew of those for each trial. So a search that is killed and run again tries the very values that it would have.
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
    """How many trials there are: a grid may have fewer than are asked for."""
    combinations = math.prod(len(each.choices or ()) for each in search.parameters.values())
    return min(search.trials, combinations) if search.sampler == "grid" else search.trials


def ask(
    search: SearchSettings, kind: type[TrainingSettings], folder: Path, number: int
) -> tuple[optuna.Trial, dict[str, Any]]:
    """The trial as Optuna knows it, and the values that it tries, by the settings' names."""
    study = study_of(search, kind, read_outcomes(folder, number), number)
    distributions = _distributions(search, kind)
    if search.sampler == "grid":
        study.enqueue_trial(_of_grid(search, number))
    asked = study.ask(distributions)
    values = {name: _value(search, name, found) for name, found in asked.params.items()}
    return asked, values


def study_of(
    search: SearchSettings, kind: type[TrainingSettings], outcomes: list[Outcome], number: int
) -> optuna.Study:
    """The study with all finished trials in it, about to ask for trial `number`."""
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
    for outcome in outcomes:
        is_complete = outcome.value is not None
        state = optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.PRUNED
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=outcome.value,
                params={name: _as_asked(search, name, value) for name, value in outcome.parameters.items()},
                distributions=distributions,
                intermediate_values={int(step): loss for step, loss in outcome.valid_losses.items()},
            )
        )
    return study


def _distributions(search: SearchSettings, kind: type[TrainingSettings]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, each in search.parameters.items():
        number = number_type(kind, name, each)
        if each.choices:
            found[name] = CategoricalDistribution([json.dumps(choice) for choice in each.choices])
        elif number is int:
            found[name] = IntDistribution(int(each.low or 0), int(each.high or 0), log=each.log)
        else:
            found[name] = FloatDistribution(float(each.low or 0), float(each.high or 0), log=each.log)
    return found


def _as_asked(search: SearchSettings, name: str, value: Any) -> Any:
    return json.dumps(value) if search.parameters[name].choices else value


def _value(search: SearchSettings, name: str, found: Any) -> Any:
    return json.loads(found) if search.parameters[name].choices else found


def _of_grid(search: SearchSettings, number: int) -> dict[str, str]:
    """The combination of choices with that number; they come in an order drawn by the seed."""
    import numpy as np

    combinations = list(itertools.product(*(each.choices or () for each in search.parameters.values())))
    place = np.random.default_rng(search.seed).permutation(len(combinations))[number]
    return {name: json.dumps(value) for name, value in zip(search.parameters, combinations[place], strict=True)}


def tried(search: SearchSettings, kind: type[TrainingSettings], values: dict[str, Any]) -> dict[str, Any]:
    """Values as the settings take them."""
    return {name: as_type(value, number_type(kind, name, search.parameters[name])) for name, value in values.items()}
