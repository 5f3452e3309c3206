"""Common parts of TRL's trainers in Strop: our token ids, our checkpoints, and the row ids of the current batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tasks.base.convert import base_folder
from tasks.base.load import load_tokenizer
from tasks.finetune.config.trainer_arguments import steps_per_epoch, total_steps
from tasks.finetune.process_group import gather_from_ranks
from tasks.finetune.step.trainer import ResumableTrainer
from tasks.finetune.work import PreparedTraining, Work

REFERENCE = "ref"
"""TRL's name for the reference copy of the adapter, which is not part of the trained model."""


class TokenTrainer(ResumableTrainer):
    """A mixin before one of TRL's trainers; its batches hold their `row_ids`.

    Args:
        tokenizer: TRL reads its padding token; it tokenizes nothing.
    """

    def __init__(self, *, model: Any, tokenizer: Any, **arguments: Any) -> None:
        configurations = [model.config.get_text_config(), getattr(model, "generation_config", None)]
        pad_ids = [(config, config.pad_token_id) for config in configurations if config is not None]
        super().__init__(model=model, processing_class=tokenizer, **arguments)
        for configuration, pad_token_id in pad_ids:  # TRL overwrites it; a scalar head reads the model's own
            configuration.pad_token_id = pad_token_id
        self.processing_class: Any = None  # or TRL writes its special tokens into the model's configuration

    def train(self, *arguments: Any, **named: Any) -> Any:
        result = super().train(*arguments, **named)
        if REFERENCE in getattr(self.model, "peft_config", {}):
            self.model.delete_adapter(REFERENCE)
        return result

    def compute_loss(self, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        self.record_rows(inputs.pop("row_ids", []), model.training)
        return super().compute_loss(model, inputs, *more, **named)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Does nothing: a model card does not belong into a checkpoint."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        """Sends nothing."""


def tokenizer_of(work: Work) -> Any:
    return load_tokenizer(base_folder(work.record))


def prepared_training(
    work: Work,
    train_rows: int,
    tokens_per_epoch: int,
    make_trainer: Callable[[list[Any]], Any],
    facts: dict[str, Any],
    epoch_flops: Callable[[Any, float], float] | None = None,
) -> PreparedTraining:
    """The prepared training of one of TRL's objectives."""
    return PreparedTraining(
        tokens_per_epoch=tokens_per_epoch,
        steps_per_epoch=steps_per_epoch(work.settings, train_rows),
        total_steps=total_steps(work.settings, train_rows),
        make_trainer=make_trainer,
        row_ids=lambda trainer: [row_id for part in gather_from_ranks(trainer.rows) for row_id in part],
        epoch_flops=epoch_flops,
        facts={"train_examples": train_rows, **facts},
    )
