"""Objective `classify`: a classification head on an encoder or decoder, trained on labelled texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from tasks import paths
from tasks.base.heads import padded
from tasks.base.load import labels_of
from tasks.dataset.rendered import Rendered, not_rendered, read_rendered
from tasks.errors import DataError, TrainingError
from tasks.finetune.config.trainer_arguments import steps_per_epoch, total_steps, training_arguments
from tasks.finetune.model.build import build_model
from tasks.finetune.model.context_length import longest_example, require_fits_context
from tasks.finetune.objectives.sft import require_rows, rows_of
from tasks.finetune.step.mfu import epoch_flops
from tasks.finetune.step.shared_prefix import IGNORED
from tasks.finetune.step.trainer import AnswerTrainer
from tasks.finetune.work import PreparedTraining, Work
from tasks.runtime.files import read_json

Batch = dict[str, Any]


def prepare(work: Work) -> PreparedTraining:
    """Texts and their labels, one example per row.

    Raises:
        DataError: no rows, only one label, or early stopping without validation rows.
        TrainingError: a text exceeds the context length, or the start model's head lacks a label.
    """
    settings = work.settings
    train, valid = read_rendered("train", "labels"), read_rendered("valid", "labels")
    train_labels, valid_labels = _read_labels("train"), _read_labels("valid")
    labels = tuple(read_json(paths.RENDERED / "labels" / "labels.json"))
    require_rows(work, len(train), len(valid))
    counts = np.bincount(train_labels, minlength=len(labels))
    _require_classes(labels, counts)
    _require_same_labels(labels, work.start)
    require_fits_context(work, longest_example(train, valid))
    weights = balanced_weights(counts) if settings.classify.class_weights == "balanced" else None

    def make_trainer(callbacks: list[Any]) -> LabelTrainer:
        return LabelTrainer(
            model=build_model(work, labels=labels),
            class_weights=weights,
            args=training_arguments(work, len(train), len(valid)),
            train_dataset=LabelledTexts(train, train_labels),
            eval_dataset=LabelledTexts(valid, valid_labels),
            label_smoothing=settings.label_smoothing,
            neftune_alpha=settings.neftune_alpha,
            is_packed=False,
            by_length=True,
            callbacks=callbacks,
        )

    return PreparedTraining(
        tokens_per_epoch=len(train.input_ids),
        steps_per_epoch=steps_per_epoch(settings, len(train)),
        total_steps=total_steps(settings, len(train)),
        make_trainer=make_trainer,
        row_ids=lambda trainer: rows_of(train, trainer),
        epoch_flops=lambda model, computed: epoch_flops(model, np.diff(train.examples), len(train), computed),
        facts={
            "train_examples": len(train),
            "train_tokens": len(train.input_ids),
            "classes": {label: int(count) for label, count in zip(labels, counts, strict=True)},
        },
    )


def balanced_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A weight per class, inverse to its frequency, with a mean of 1 over the examples; 0 for a class without examples."""
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (np.count_nonzero(present) * counts[present])
    return weights


class LabelledTexts(Dataset[Batch]):  # type: ignore[misc]
    """The texts of a split and their labels; item i is row i.

    Args:
        labels: int32 [examples], index of each label in the head.
    """

    def __init__(self, rendered: Rendered, labels: npt.NDArray[np.int32]) -> None:
        self.rendered = rendered
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rendered)

    def __getitem__(self, index: int) -> Batch:
        first, last = self.rendered.examples[index : index + 2]
        ids, learns = self.rendered.input_ids[first:last], np.ones(1, np.uint8)
        return {"input_ids": ids, "label": int(self.labels[index]), "loss_mask": learns, "row": index}

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.rendered.examples)


class LabelTrainer(AnswerTrainer):
    """Trains a classification head. The loss is the mean cross-entropy per example of the global batch.

    Args:
        class_weights: loss weight of each label.
    """

    def __init__(self, class_weights: npt.NDArray[np.float64] | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.data_collator = self._collate
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def _collate(self, rows: list[Batch]) -> Batch:
        """Texts → a batch.

        Returns:
            input_ids, attention_mask: int64 [examples, longest]; labels, rows: int64 [examples], with label -100 for filler rows.
        """
        labels = torch.tensor([row["label"] if row["loss_mask"].any() else IGNORED for row in rows])
        row_indices = torch.tensor([row["row"] for row in rows])
        return {**padded([row["input_ids"] for row in rows], self.model), "labels": labels, "rows": row_indices}

    def _padded_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], labels: torch.Tensor, smoothing: float
    ) -> tuple[torch.Tensor, Any]:
        self.lengths = inputs["attention_mask"].sum(1)
        outputs = model(**inputs)
        weight = None if self.class_weights is None else self.class_weights.to(labels.device)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits.float(), labels, weight, reduction="sum", label_smoothing=smoothing
        )
        return loss, outputs


def _read_labels(split: str) -> npt.NDArray[np.int32]:
    path = paths.RENDERED / "labels" / split / "labels.npy"
    try:
        labels: npt.NDArray[np.int32] = np.load(path)
    except FileNotFoundError as error:
        raise not_rendered(path) from error
    return labels


def _require_classes(labels: tuple[str, ...], counts: npt.NDArray[np.int64]) -> None:
    if len(labels) < 2:
        what = f"all {int(counts.sum())} training rows have the label {labels[0]!r}: a classifier needs at least two"
        raise DataError(what, where="finetune", fix="Add a source with the other classes, or fix render.balance")


def _require_same_labels(labels: tuple[str, ...], start: Path | None) -> None:
    """Raises TrainingError where the start model's head has other labels."""
    start_labels = labels_of(start) if start is not None else None
    if start_labels is not None and start_labels != labels:
        new = ", ".join(label for label in labels if label not in start_labels) or "others"
        what = f"the start model classifies {', '.join(start_labels)}; the training rows also have {new}"
        raise TrainingError(what, where="finetune", fix="Train the base: finetune.continue_from: base")
