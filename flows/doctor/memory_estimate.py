"""Estimates the GPU memory of a training from the base model's configuration, before the model is loaded.

    estimate = estimate_training(config, training, render)     # config: the content of the base's config.json

The sum of these parts, in bytes (P parameters of the base, A trained ones, T tokens in one forward pass, L layers, h hidden,
f feed-forward and k key/value width, V vocabulary):

- weights: 2 P in bf16, 4 for trained weights, 0.56 for the linear layers of `qlora`; for `dpo`, `kto` and
  `grpo` without an adapter a second copy, the reference model
- training: 12 A: gradients (4) and AdamW's moments (8); 4 A more for the adapters
- activations per layer and token, kept for the backward pass: (8 h + 2 k + 4 f) numbers in the precision, and 8 h for
  the norms, which use fp32. With gradient checkpointing: h numbers per layer and token, and one layer in full
- head: 12 V per token whose logits are in memory: logits in the precision, in fp32, and their gradient. For packed
  rows these are the tokens of one loss chunk, for padded rows and TRL's objectives all tokens
- 1.2 GB for the CUDA context, the library's workspaces and fragmentation

T is `micro_batch_rows` packed rows, or texts and answers of maximum length: two for a pair, `grpo.answers` for a prompt.
P and A are counted: the model is built on PyTorch's `meta` device, without memory, in the same way as for the training. A
teacher and a reward model are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flows.doctor.finding import GB
from tasks.finetune.settings import TrainingSettings
from tasks.render.settings import RenderSettings

CONTEXT_BYTES = 1.2e9
FOUR_BITS = 0.56
"""Bytes per weight, including the scales of its block."""


@dataclass(frozen=True)
class Memory:
    """In bytes."""

    weights: float
    training: float
    activations: float
    head: float
    context: float = CONTEXT_BYTES

    @property
    def total(self) -> float:
        return self.weights + self.training + self.activations + self.head + self.context

    def __str__(self) -> str:
        parts = f"weights {self.weights / GB:.1f}, optimiser {self.training / GB:.1f}, "
        parts += f"activations {self.activations / GB:.1f}, head {self.head / GB:.1f}, context {self.context / GB:.1f}"
        return f"{self.total / GB:.1f} GB ({parts})"


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model, independent of the names in its configuration."""

    layers: int
    hidden: int
    feed_forward: int
    key_value: int
    vocabulary: int


def estimate_training(config: dict[str, Any], training: TrainingSettings, render: RenderSettings) -> Estimate:
    """The parameters and the memory of a training, in its precision on this machine.

    Raises:
        TrainingError: the model has no module that `lora.target_modules` or `freeze` names.
    """
    from tasks.base.precision import precision_of
    from tasks.finetune.step.chunked_loss import LOGITS_AT_ONCE

    precision, parameters = precision_of(training.precision), count_parameters(config, training)
    shape = shape_of(config)
    number = 2 if precision == "bf16" else 4
    moments = 8 if training.optimizer == "adamw" else 0
    has_adapter = training.method not in ("full", "freeze")
    layer = number * (8 * shape.hidden + 2 * shape.key_value + 4 * shape.feed_forward) + 8 * shape.hidden
    layer_bytes = shape.layers * layer
    if training.gradient_checkpointing:
        layer_bytes = shape.layers * number * shape.hidden + layer
    weights = _weights(parameters, has_adapter, training.method == "qlora", number)
    compares = training.spec.has_reference_model(training)
    # nearly all tokens of a row may be its answer
    predicted = _sequences(training) * training.spec.sampled_tokens(training) or _tokens(training, render)
    logits = 0 if training.spec.head != "none" else predicted * shape.vocabulary
    memory = Memory(
        weights=weights * (2 if compares and not has_adapter else 1),
        training=parameters.trained
        * ((4 if has_adapter else 0) + (4 if has_adapter and compares else 0) + 4 + moments),
        activations=_tokens(training, render) * layer_bytes,
        head=(min(logits, LOGITS_AT_ONCE) if _is_packed(training) else logits)
        * (number + 8 + (2 if number == 2 else 0)),
    )
    return Estimate(training, precision, parameters, memory)


def _weights(parameters: Parameters, has_adapter: bool, in_four_bits: bool, number: int) -> float:
    if in_four_bits:
        return parameters.linear * FOUR_BITS + (parameters.base - parameters.linear) * number
    return (
        parameters.base * number
        if has_adapter
        else (parameters.base - parameters.trained) * number + parameters.trained * 4
    )


def _tokens(training: TrainingSettings, render: RenderSettings) -> int:
    """Tokens of a forward pass whose activations are fields."""
    if _is_packed(training):
        return training.micro_batch_rows * render.pack_length_tokens
    return _sequences(training) * (render.max_length_tokens + training.spec.sampled_tokens(training))


def _sequences(training: TrainingSettings) -> int:
    return training.micro_batch_rows * training.spec.sequences(training)


def _is_packed(training: TrainingSettings) -> bool:
    return training.spec.is_packed and training.batches == "packed"


def shape_of(config: dict[str, Any]) -> Shape:
    """Reads the dimensions by their names in Llama-like and GPT-2-like configurations."""

    def first(*names: str, default: int | None = None) -> int:
        value = next((config[name] for name in names if config.get(name)), default)
        assert value is not None, f"the configuration has none of {names}"
        return int(value)

    hidden = first("hidden_size", "n_embd", "d_model")
    heads = first("num_attention_heads", "n_head", default=1)
    head = first("head_dim", default=hidden // heads)
    return Shape(
        layers=first("num_hidden_layers", "n_layer", "num_layers"),
        hidden=hidden,
        feed_forward=first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
        key_value=first("num_key_value_heads", default=heads) * head,
        vocabulary=first("vocab_size"),
    )


@dataclass(frozen=True)
class Parameters:
    base: int
    trained: int
    linear: int
    """The base's parameters in linear layers without the head."""
    unmatched_targets: tuple[str, ...] = ()
    """The names in `lora.target_modules` that no module has, with the nearest names."""


@dataclass(frozen=True)
class Estimate:
    """A training with its parameters and memory."""

    training: TrainingSettings
    precision: Literal["bf16", "fp32"]
    parameters: Parameters
    memory: Memory

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint: the model, and AdamW's moments."""
        return self.model_bytes + 8 * self.parameters.trained

    @property
    def model_bytes(self) -> int:
        """Of the saved model: the adapter, or all weights."""
        is_whole = self.training.method in ("full", "freeze")
        return 4 * (self.parameters.base if is_whole else self.parameters.trained)


def count_parameters(config: dict[str, Any], training: TrainingSettings) -> Parameters:
    """Counts the parameters of the model for this configuration and method.

    Raises:
        TrainingError: the model has no module that `lora.target_modules` or `freeze` names.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    from tasks.finetune.model.build import unmatched_targets, with_method
    from tasks.finetune.model.initial_weights import LORA_METHODS

    fields = {key: value for key, value in config.items() if key not in ("model_type", "quantization_config")}
    has_labels = training.spec.head != "none"
    kind = AutoModelForSequenceClassification if has_labels else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(AutoConfig.for_model(config["model_type"], **fields))
        model.new_modules = tuple(name for name, _ in model.named_children() if name != model.base_model_prefix)
        head = model.get_output_embeddings()
        linear = sum(
            module.weight.numel()
            for module in model.modules()
            if type(module).__name__ in ("Linear", "Conv1D") and module is not head
        )
        base = sum(value.numel() for value in model.parameters())
        targets = training.lora.target_modules if training.method in LORA_METHODS else "all-linear"
        unmatched = unmatched_targets(model, targets)
        adapted = with_method(model, training, "fp32", "SEQ_CLS" if has_labels else "CAUSAL_LM")
    trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    return Parameters(base, trained, linear, tuple(unmatched))
