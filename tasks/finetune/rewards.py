"""Objective `reward`: a model with one number for a head, which is higher for the better of two answers (Ouyang et al., 2022)."""

from __future__ import annotations

from typing import Any

from tasks.finetune.answers import require_rows
from tasks.finetune.arguments import steps_per_epoch, total_steps
from tasks.finetune.model import build_model
from tasks.finetune.objectives import Prepared, Work
from tasks.finetune.processes import from_all
from tasks.finetune.token_rows import TokenRows, collate_ranked, count_tokens
from tasks.finetune.token_trainer import TokenTrainer, tokenizer_of, trl_arguments
from tasks.rendered import read_rows

LABELS = ("reward",)


def prepare(work: Work) -> Prepared:
    """Pairs.

    Raises:
        DataError: there are none; or early stopping is on, and there is no validation row.
    """
    settings = work.settings
    train, valid = read_rows("train", "ranked"), read_rows("valid", "ranked")
    require_rows(work, len(train), len(valid))
    tokens = 2 * count_tokens(train, "prompt_ids") + count_tokens(train, "chosen_ids", "rejected_ids")

    def make_trainer(callbacks: list[Any]) -> Any:
        from trl import RewardConfig, RewardTrainer

        class Ranker(TokenTrainer, RewardTrainer):  # type: ignore[misc]
            pass

        model = build_model(work, labels=LABELS)
        more = {"max_length": None, "disable_dropout": False}
        return Ranker(
            model=model,
            tokenizer=tokenizer_of(work),
            args=trl_arguments(work, len(train), len(valid), RewardConfig, **more),
            data_collator=collate_ranked(model.config.get_text_config().pad_token_id),
            train_dataset=TokenRows(train),
            eval_dataset=TokenRows(valid) if len(valid) else None,
            callbacks=callbacks,
        )

    return Prepared(
        tokens_per_epoch=tokens,
        steps_per_epoch=steps_per_epoch(settings, len(train)),
        total_steps=total_steps(settings, len(train)),
        make_trainer=make_trainer,
        row_ids=lambda trainer: [row_id for each in from_all(trainer.row_ids) for row_id in each],
        facts={"train_examples": len(train), "train_tokens": tokens},
    )
