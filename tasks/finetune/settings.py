"""Settings of room `finetune`."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.finetune.config.preflight import (
    invalid_combinations,
    invalid_start_from_classifier,
    invalid_start_from_prompts,
    missing_reward_model,
)
from tasks.finetune.config.search_settings import SearchSettings, require_searchable
from tasks.finetune.config.training_fields import TrainingFields
from tasks.finetune.objective_table import MODEL_KINDS, OBJECTIVES


class TrainingSettings(TrainingFields):
    """One training."""

    @model_validator(mode="after")
    def is_valid_combination(self) -> Self:
        if what := list(self.invalid_combinations()):
            raise ValueError("; ".join(what))
        return self

    def invalid_combinations(self) -> Iterator[str]:
        """Each as one line."""
        yield from invalid_combinations(self)
        yield from self._invalid_options()

    def _invalid_options(self) -> Iterator[str]:
        if self.options and self.spec.options is None:
            yield f"options are for objectives of plugins, and objective: {self.objective} has none"
        try:
            self.parsed_options()
        except ValidationError as error:
            for invalid in error.errors():
                yield f"options.{'.'.join(map(str, invalid['loc']))}: {invalid['msg']}"

    def parsed_options(self) -> Any:
        """`options` as an instance of the model that the objective's spec names; None for an objective without one."""
        model = self.spec.options
        return None if model is None else model.model_validate_json(json.dumps(self.options))


class FinetuneSettings(TrainingSettings):
    before: tuple[TrainingSettings, ...] = ()
    """Earlier trainings, each starting from the result of the previous one: `pretrain` before `sft`, `sft` and `reward` before
    `grpo`. A reward model starts from that result, too, but no training starts from it: it scores answers for the later ones."""
    continue_from: Literal["base", "champion"] = "base"
    """`champion` continues from the champion's weights, with the rows added since its training and a share of the old rows. Without
    a champion, training starts from the base."""
    replay_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """With `continue_from: champion`: the share of the champion's training rows that is trained on again."""

    search: SearchSettings | None = None
    """Hyperparameter search over the last training, by validation loss; null: no search."""
    launch: LaunchSettings = LaunchSettings()
    """The number of processes and how they share the model."""

    def invalid_combinations(self) -> Iterator[str]:
        others = [*super().invalid_combinations(), *self._invalid_sequence()]
        yield from others
        if self.search is not None and self.launch.nodes > 1:
            yield "`search` runs on one node: set launch.nodes: 1"
        if self.search is not None and not others:  # it validates the settings again, with other values
            try:
                require_searchable(self.search, self)
            except ValueError as error:
                yield str(error)

    def _invalid_sequence(self) -> Iterator[str]:
        trainings, processes = self.trainings(), self.launch.all_processes
        for training in trainings:
            if training.gradient_accumulation_steps % processes:
                what = f"gradient_accumulation_steps is {training.gradient_accumulation_steps}, which"
                yield f"{what} {processes} processes cannot share: set a multiple of that number"
        checks = (missing_reward_model, invalid_start_from_classifier, invalid_start_from_prompts)
        yield from (error for check in checks if (error := check(trainings)))

    def trainings(self) -> tuple[TrainingSettings, ...]:
        """All trainings, in order; the last one produces the candidate."""
        return (*self.before, self)

    def forms(self) -> tuple[str, ...]:
        """The forms that the trainings need, without repetitions; the candidate's is the last."""
        needed = [training.spec.form for training in self.trainings()]
        return tuple(form for index, form in enumerate(needed) if form not in needed[index + 1 :])

    def model_kind(self) -> str:
        """The kind of the candidate, as a verb phrase (tasks/base/model_kind.py)."""
        return MODEL_KINDS[self.spec.head]

    @staticmethod
    def kind_of(objective: str) -> str | None:
        """The kind of the models of an objective; None if it is that of a plugin which is not loaded."""
        spec = OBJECTIVES.get(objective)
        return None if spec is None else MODEL_KINDS[spec.head]

    def models_named(self) -> list[str]:
        """The registered versions and folders that the trainings read: teachers and reward models."""
        return [
            name for training in self.trainings() if training.spec.models for name in training.spec.models(training)
        ]

    def precisions(self) -> list[Literal["auto", "bf16", "fp32"]]:
        """The distinct precisions of the trainings and of a search's trials."""
        precisions = {training.precision for training in self.trainings()}
        if self.search is not None and "precision" in self.search.parameters:
            precisions.update(self.search.parameters["precision"].choices or ())
        return sorted(precisions)
