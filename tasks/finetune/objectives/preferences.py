"""Objectives `dpo`, `orpo` and `kto`: the better of two answers, or answers that were rated good or bad.

DPO (Rafailov et al., 2023) and KTO (Ethayarajh et al., 2024) compare with a reference model: the start weights of the training, as
a frozen copy of the adapter or of the full model. ORPO (Hong et al., 2024) has no reference model; in TRL's version, the prompts of
the better answers also have a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.dataset.rendered import read_rows
from tasks.errors import TrainingError
from tasks.finetune.config.trainer_arguments import training_arguments
from tasks.finetune.model.build import build_model
from tasks.finetune.model.context_length import longest_row, max_row_tokens, require_fits_context
from tasks.finetune.objectives.sft import require_rows
from tasks.finetune.objectives.trl_dataset import (
    Batch,
    TokenRows,
    collate_judged,
    collate_odds,
    collate_pairs,
    count_tokens,
    sequence_lengths,
)
from tasks.finetune.objectives.trl_trainer import TokenTrainer, prepared_training, tokenizer_of
from tasks.finetune.step.mfu import epoch_flops
from tasks.finetune.work import PreparedTraining, Work

if TYPE_CHECKING:
    import pyarrow as pa


def prepare(work: Work) -> PreparedTraining:
    """Pairs (`dpo`, `orpo`) or rated answers (`kto`).

    Raises:
        DataError: no rows, or early stopping without validation rows.
        TrainingError: `kto` would have one answer in a forward pass, or a row exceeds the context length.
    """
    settings = work.settings
    if settings.objective == "kto" and settings.micro_batch_rows < 2:  # halved after running out of memory
        fix = "Set finetune.gradient_checkpointing: true, or lower render.max_length_tokens"
        raise TrainingError("kto needs two answers in a forward pass, which do not fit", where="finetune", fix=fix)
    form = settings.spec.form
    train, valid = read_rows("train", form), read_rows("valid", form)
    require_rows(work, len(train), len(valid))
    require_fits_context(work, longest_row(train, valid))
    answers = ("answer_ids",) if form == "judged" else ("chosen_ids", "rejected_ids")
    lengths, learned = sequence_lengths(train, *answers), count_tokens(train, *answers)
    if settings.objective == "orpo":
        learned += count_tokens(train, "prompt_ids")
    facts: dict[str, Any] = {"train_tokens": int(lengths.sum())}
    if form == "judged":
        facts["desirable_examples"] = sum(train["desirable"].to_pylist())

    def make_trainer(callbacks: list[Any]) -> Any:
        tokenizer = tokenizer_of(work)
        trainer_class, collate = TRAINERS[settings.objective](work, train)
        return trainer_class(
            model=build_model(work),
            tokenizer=tokenizer,
            args=training_arguments(work, len(train), len(valid)),
            data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
            train_dataset=TokenRows(train),
            eval_dataset=TokenRows(valid) if len(valid) else None,
            callbacks=callbacks,
        )

    def flops(model: Any, _: float) -> float:
        return epoch_flops(model, lengths, learned, extra_passes=settings.spec.extra_passes)

    return prepared_training(work, len(train), int(lengths.sum()), make_trainer, facts, flops)


TrainerParts = tuple[type[Any], Callable[..., Batch]]
"""The trainer's class, and its collator, which also needs `pad_id`."""


def _dpo(work: Work, train: pa.Table) -> TrainerParts:
    from trl import DPOTrainer

    class Dpo(TokenTrainer, DPOTrainer):  # type: ignore[misc]
        pass

    return Dpo, collate_pairs


def _orpo(work: Work, train: pa.Table) -> TrainerParts:
    from trl.experimental.orpo import ORPOTrainer

    class Orpo(TokenTrainer, ORPOTrainer):  # type: ignore[misc]
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.use_dpo_data_collator = True  # its batches have the same fields as ours

    return Orpo, collate_odds


def _kto(work: Work, train: pa.Table) -> TrainerParts:
    from torch.utils.data import RandomSampler
    from trl import KTOTrainer

    class Kto(TokenTrainer, KTOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> RandomSampler:
            """TRL keeps the row order because it pairs neighbours in advance; here the collator pairs rows of a batch."""
            return RandomSampler(self.train_dataset if train_dataset is None else train_dataset)

    spare_rows, limit = train.slice(0, 2).to_pylist(), max_row_tokens(work)
    return Kto, partial(collate_judged, spare_rows=spare_rows, limit=limit)


TRAINERS = {"dpo": _dpo, "orpo": _orpo, "kto": _kto}
