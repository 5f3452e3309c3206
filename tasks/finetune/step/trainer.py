"""transformers' Trainer with a chunked answer loss, NEFTune noise per example, and a validation loss per token."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import Trainer

from tasks.finetune.config.objective_settings import DistillSettings
from tasks.finetune.process_group import gather_from_ranks, world_size
from tasks.finetune.step.chunked_loss import SoftTargets, cross_entropy, distillation, loss_of_logits, use_answer_loss
from tasks.finetune.step.gpu_kernels import boundaries
from tasks.finetune.step.packed_attention import ATTENTION, collate, collate_padded, collate_shared_prompt
from tasks.finetune.step.packing_probe import supports_shared_prompts
from tasks.finetune.step.samplers import RowSampler, RowsWithFillers
from tasks.finetune.step.shared_prefix import IGNORED, predicting_positions


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """Records the rows of the current global batch, and can resume from the last checkpoint of a training."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rows: list[Any] = []
        """Of the current global batch: packed rows by micro-batch, or row ids."""
        self._rows_step = -1

    def record_rows(self, rows: list[Any], is_training: bool) -> None:
        """Records the rows of a micro-batch."""
        if is_training:
            if self._rows_step != self.state.global_step:
                self._rows_step, self.rows = self.state.global_step, []
            self.rows += rows

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        """Does nothing if the resumed checkpoint was the training's last."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        if not self.control.should_training_stop:
            super()._run_epoch(*arguments, **named)


class AnswerTrainer(ResumableTrainer):
    """Trains on batches of `packed_attention.collate`. The loss is the mean cross-entropy per trained token of the global batch.

    Args:
        label_smoothing: share of each target that is spread uniformly over the vocabulary, in training.
        neftune_alpha: noise on the embeddings, in training.
        is_packed: False for unpacked, padded batches.
        by_length: rows of similar length share a batch; the dataset has `lengths`.
        distill: temperature and weight of a teacher's targets, if the training rows have them.
        shares_prompt: compute the shared prompt of a packed batch once, if the model supports it.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        neftune_alpha: float = 0.0,
        is_packed: bool = True,
        by_length: bool = False,
        distill: DistillSettings | None = None,
        shares_prompt: bool = False,
        **arguments: Any,
    ) -> None:
        self.by_length = by_length
        self._sampler: RowSampler | None = None
        shares_prompt = shares_prompt and is_packed and supports_shared_prompts(arguments["model"], ATTENTION)
        packed_collate = collate_shared_prompt if shares_prompt else collate
        super().__init__(data_collator=packed_collate if is_packed else collate_padded, **arguments)
        self.model_accepts_loss_kwargs = True  # so that the Trainer counts the trained tokens of a global batch
        self.loss_is_scaled_for_ga = True
        self.label_smoothing = label_smoothing
        self.distill = distill
        self.is_packed = is_packed
        self.lengths: torch.Tensor | None = None
        self.computes_own_loss = is_packed and use_answer_loss(self.model)
        if neftune_alpha:
            _add_noise(self, neftune_alpha)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Sum of the cross-entropies of the batch's trained tokens, divided by the trained tokens of the global batch."""
        self.record_rows([inputs.pop("rows")], model.training)
        labels = inputs.pop("labels")
        smoothing = self.label_smoothing if model.training else 0.0
        compute = self._packed_loss if self.is_packed else self._padded_loss
        loss, outputs = compute(model, inputs, labels, smoothing)
        if num_items_in_batch is None:
            loss = loss / max(int((labels != IGNORED).sum()), 1)
        else:
            loss = loss * world_size() / num_items_in_batch  # gradients are averaged over processes
        return (loss, outputs) if return_outputs else loss

    def _packed_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], labels: torch.Tensor, smoothing: float
    ) -> tuple[torch.Tensor, Any]:
        trained = (labels[0] != IGNORED).nonzero()[:, 0]
        edges = inputs.pop("cu_seq_lens_q")
        positions, targets = predicting_positions(trained, edges), labels[0, trained]
        self.lengths = torch.diff(edges)
        inputs |= boundaries(edges, self.model.config._attn_implementation)
        soft = self._soft_targets(inputs)
        if self.computes_own_loss:
            extra = {
                "answer_positions": positions,
                "answer_labels": targets,
                "label_smoothing": smoothing,
                "soft": soft,
            }
            outputs = model(**inputs, **extra, use_cache=False)
            return outputs.loss, outputs
        outputs = model(**inputs, logits_to_keep=positions, use_cache=False)
        loss_function = distillation(targets, soft) if soft else cross_entropy(targets, smoothing)
        return loss_of_logits(outputs.logits[0], loss_function), outputs

    def _soft_targets(self, inputs: dict[str, torch.Tensor]) -> SoftTargets | None:
        if "soft_ids" not in inputs or self.distill is None:
            return None
        ids, log_probabilities = inputs.pop("soft_ids").long(), inputs.pop("soft_log_probabilities")
        return SoftTargets(ids, log_probabilities, self.distill.temperature, self.distill.share)

    def _padded_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], labels: torch.Tensor, smoothing: float
    ) -> tuple[torch.Tensor, Any]:
        self.lengths = inputs["attention_mask"].sum(1)
        soft = self._soft_targets(inputs)
        outputs = model(**inputs)
        logits = outputs.logits[:, -labels.shape[1] :]  # without the virtual tokens'
        is_trained = labels[:, 1:] != IGNORED
        targets = labels[:, 1:][is_trained]
        loss_function = distillation(targets, soft) if soft else cross_entropy(targets, smoothing)
        return loss_of_logits(logits[:, :-1][is_trained], loss_function), outputs

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        if self._sampler is not None:  # a resumed epoch's data loader does not set it
            self._sampler.set_epoch(named["epoch"])
        super()._run_epoch(*arguments, **named)

    def _get_dataloader(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
        return super()._get_dataloader(RowsWithFillers(dataset) if world_size() > 1 else dataset, *arguments, **named)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.by_length or world_size() > 1:
            self._sampler = self._make_sampler(
                self.train_dataset, self.args.per_device_train_batch_size, self.args.seed
            )
            return self._sampler
        return super()._get_train_sampler(train_dataset)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if self.by_length or world_size() > 1:
            return self._make_sampler(self.eval_dataset, self.args.per_device_eval_batch_size, None)
        return super()._get_eval_sampler(eval_dataset)

    def _make_sampler(self, rows: Any, batch_rows: int, seed: int | None) -> RowSampler:
        return RowSampler(len(rows), batch_rows, world_size(), seed, rows.lengths if self.by_length else None)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Validation loss per trained token, as {"eval_loss": nats}."""
        model = self.model.eval()
        total, tokens = 0.0, 0.0
        for batch in self.get_eval_dataloader():
            batch = self._prepare_inputs(batch)
            count = int((batch["labels"] != IGNORED).sum())
            with torch.inference_mode(), self.accelerator.autocast():
                total += float(self.compute_loss(model, batch)) * count
            tokens += count
        total, tokens = (sum(values) for values in zip(*gather_from_ranks((total, tokens)), strict=True))
        loss = total / tokens if tokens else math.nan
        metrics = {f"{metric_key_prefix}_loss": loss}
        self.log(metrics)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _add_noise(trainer: AnswerTrainer, alpha: float) -> None:
    """NEFTune (Jain et al., 2023): uniform noise on the embeddings, scaled by alpha / sqrt(tokens x width), per example."""

    def hook(module: Any, _: Any, embedded: torch.Tensor) -> torch.Tensor:
        if not module.training or trainer.lengths is None:
            return embedded
        lengths = trainer.lengths.to(embedded.device)
        scale = alpha / torch.sqrt(lengths * embedded.shape[-1])
        scale = scale.repeat_interleave(lengths)[None, :, None] if trainer.is_packed else scale[:, None, None]
        noise = torch.rand_like(embedded, dtype=torch.float32) * 2 - 1
        return embedded + (noise * scale).to(embedded.dtype)

    trainer.model.get_input_embeddings().register_forward_hook(hook)
