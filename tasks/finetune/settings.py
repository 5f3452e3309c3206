"""Settings of room `finetune`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.finetune.config.preflight import misfit, misplaced_head, misplaced_prompts, missing_judge
from tasks.finetune.config.search_settings import SearchSettings, require_searchable
from tasks.finetune.config.training_fields import TrainingFields


class TrainingSettings(TrainingFields):
    """One training."""

    @model_validator(mode="after")
    def has_rows_of_its_batches(self) -> Self:
        if self.batches == "by_length" and self.objective not in ("sft", "pretrain"):
            raise ValueError(f"batches: by_length is for objective: sft and pretrain, not {self.objective}")
        return self

    @model_validator(mode="after")
    def fits_its_objective(self) -> Self:
        if what := misfit(self):
            raise ValueError(what)
        return self


class FinetuneSettings(TrainingSettings):
    before: tuple[TrainingSettings, ...] = ()
    """Trainings that come first, each on the result of the one before: `pretrain` before `sft`, `sft` and `reward` before `grpo`.
    A reward model is trained on that result too, and nothing goes on from it: it judges what comes after."""
    continue_from: Literal["base", "champion"] = "base"
    """`champion` trains the champion's weights on, with the rows that are new since it was made and a share of the old ones. Before
    there is a champion, the base is trained."""
    replay_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """With `continue_from: champion`: the share of the rows that the champion knows already that is trained on again."""

    search: SearchSettings | None = None
    """Tries settings of the last training, and keeps the best by validation loss; null trains it as it is written."""
    launch: LaunchSettings = LaunchSettings()
    """In how many processes the trainings run."""

    @model_validator(mode="after")
    def can_be_searched_and_shared(self) -> Self:
        if self.search is not None:
            require_searchable(self.search, self)
            if self.launch.nodes > 1:
                raise ValueError("`search` runs on one node: set launch.nodes: 1")
        for training in self.trainings():
            if training.gradient_accumulation_steps % self.launch.all_processes:
                what = f"gradient_accumulation_steps is {training.gradient_accumulation_steps}, which"
                raise ValueError(f"{what} {self.launch.all_processes} processes cannot share: take a multiple of them")
        return self

    @model_validator(mode="after")
    def go_on_from_one_another(self) -> Self:
        trainings = self.trainings()
        if what := missing_judge(trainings) or misplaced_head(trainings) or misplaced_prompts(trainings):
            raise ValueError(what)
        return self

    def trainings(self) -> tuple[TrainingSettings, ...]:
        """All of them, in order; the last is what becomes the candidate."""
        return (*self.before, self)

    def precisions(self) -> list[Literal["auto", "bf16", "fp32"]]:
        """Those that the trainings, and the trials of a search, may choose, each once."""
        chosen = {training.precision for training in self.trainings()}
        if self.search is not None and "precision" in self.search.parameters:
            chosen.update(self.search.parameters["precision"].choices or ())
        return sorted(chosen)
