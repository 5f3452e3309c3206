"""Objective `reward`: a model with a scalar head, which scores the better of two answers higher (Ouyang et al., 2022)."""

from __future__ import annotations

from functools import partial
from typing import Any

from tasks.base.heads import REWARD
from tasks.dataset.rendered import read_rows
from tasks.finetune.config.trainer_arguments import training_arguments
from tasks.finetune.model.build import build_model
from tasks.finetune.model.context_length import longest_row, require_fits_context
from tasks.finetune.objectives.sft import require_rows
from tasks.finetune.objectives.trl_dataset import TokenRows, collate_ranked, sequence_lengths
from tasks.finetune.objectives.trl_trainer import TokenTrainer, prepared_training, tokenizer_of
from tasks.finetune.step.mfu import epoch_flops
from tasks.finetune.work import PreparedTraining, Work


def prepare(work: Work) -> PreparedTraining:
    """Pairs.

    Raises:
        DataError: no rows, or early stopping without validation rows.
        TrainingError: a pair exceeds the context length.
    """
    train, valid = read_rows("train", "ranked"), read_rows("valid", "ranked")
    require_rows(work, len(train), len(valid))
    require_fits_context(work, longest_row(train, valid))
    lengths = sequence_lengths(train, "chosen_ids", "rejected_ids")
    tokens = int(lengths.sum())

    def make_trainer(callbacks: list[Any]) -> Any:
        from trl import RewardTrainer

        class Ranker(TokenTrainer, RewardTrainer):  # type: ignore[misc]
            pass

        model = build_model(work, labels=REWARD)
        return Ranker(
            model=model,
            tokenizer=tokenizer_of(work),
            args=training_arguments(work, len(train), len(valid)),
            data_collator=partial(collate_ranked, pad_id=model.config.get_text_config().pad_token_id),
            train_dataset=TokenRows(train),
            eval_dataset=TokenRows(valid) if len(valid) else None,
            callbacks=callbacks,
        )

    def flops(model: Any, _: float) -> float:
        return epoch_flops(model, lengths, len(lengths))

    return prepared_training(work, len(train), tokens, make_trainer, {"train_tokens": tokens}, flops)
