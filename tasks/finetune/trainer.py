"""transformers' Trainer with two changes: logits for answer tokens only, and a validation loss a token, not a batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import Trainer

from tasks.finetune.packed import collate


class AnswerTrainer(Trainer):  # type: ignore[misc]
    """Trains on batches of `packed.collate`. The loss is cross-entropy a trained token, over the whole global batch."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(data_collator=collate, **arguments)
        self.model_accepts_loss_kwargs = True  # so that the Trainer counts the trained tokens of a global batch
        self.loss_is_scaled_for_ga = True

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Sum of the cross-entropies of the batch's trained tokens, over the trained tokens of the global batch."""
        labels = inputs.pop("labels")[0]
        trained = (labels != -100).nonzero()[:, 0]
        # the logits that predict a token stand one place before it; no others are computed
        outputs = model(**inputs, logits_to_keep=trained - 1, use_cache=False)
        loss = torch.nn.functional.cross_entropy(outputs.logits[0].float(), labels[trained], reduction="sum")
        loss = loss / (num_items_in_batch if num_items_in_batch is not None else len(trained))
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Validation loss a trained token, as {"eval_loss": nats}."""
        model = self.model.eval()
        total, tokens = 0.0, 0
        for batch in self.get_eval_dataloader():
            batch = self._prepare_inputs(batch)
            count = int((batch["labels"] != -100).sum())
            with torch.inference_mode(), self.accelerator.autocast():
                total += float(self.compute_loss(model, batch)) * count
            tokens += count
        loss = total / tokens if tokens else math.nan
        metrics = {f"{metric_key_prefix}_loss": loss}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
