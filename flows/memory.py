"""How much GPU memory a training takes, computed from the base model's configuration before a byte of it is loaded.

    estimate = estimate_memory(config, finetune, render, precision="bf16")

What it adds up, in bytes (P parameters, A of them trained, T tokens in one forward pass, L layers, h hidden, f feed-forward
and k key/value width, V vocabulary):

- weights: 2 P in bf16 with LoRA (the frozen base is kept in bf16), else 4 P
- training: 16 A: the trained weights in fp32 (4; counted above where all are trained), gradients (4), AdamW's moments (8)
- activations a layer and token: what the backward pass reads, (8 h + 2 k + 4 f) numbers in the precision, and 8 h for
  the norms, which compute in fp32. With gradient checkpointing: h numbers a layer and token, and one layer's in full
- head: 12 V for each token that is predicted: logits in the precision, in fp32, and their gradient. Only answer tokens
  are predicted, but a row may be nearly all answer: all T are counted
- 1.2 GB for the CUDA context, the library's workspaces and fragmentation

P and A are counted, not guessed: the model is built without memory (PyTorch's `meta` device).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tasks.finetune.settings import FinetuneSettings
from tasks.render.settings import RenderSettings

GB = 1e9
CONTEXT_BYTES = 1.2e9


@dataclass(frozen=True)
class Memory:
    """In bytes."""

    parameters: int
    trained_parameters: int
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
    """The widths of a model, whatever its family calls them."""

    layers: int
    hidden: int
    feed_forward: int
    key_value: int
    vocabulary: int


def estimate_memory(
    config: dict[str, Any], finetune: FinetuneSettings, render: RenderSettings, precision: Literal["bf16", "fp32"]
) -> Memory:
    """The memory of one training step. `config` is the content of the base's config.json."""
    shape = shape_of(config)
    parameters, trained = count_parameters(config, finetune)
    is_lora = finetune.method == "lora"
    number = 2 if precision == "bf16" else 4
    tokens = finetune.micro_batch_rows * render.pack_length_tokens
    moments = 8 if finetune.optimizer == "adamw" else 0
    layer = number * (8 * shape.hidden + 2 * shape.key_value + 4 * shape.feed_forward) + 8 * shape.hidden
    kept = shape.layers * number * shape.hidden + layer if finetune.gradient_checkpointing else shape.layers * layer
    return Memory(
        parameters=parameters,
        trained_parameters=trained,
        weights=parameters * (number if is_lora else 4),
        training=trained * ((4 if is_lora else 0) + 4 + moments),
        activations=tokens * kept,
        head=tokens * shape.vocabulary * (number + 8 + (2 if number == 2 else 0)),
    )


def shape_of(config: dict[str, Any]) -> Shape:
    """Reads the widths by the names that Llama-like and GPT-2-like configurations give them."""

    def first(*names: str, default: int | None = None) -> int:
        found = next((config[name] for name in names if config.get(name)), default)
        assert found is not None, f"the configuration has none of {names}"
        return int(found)

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


def count_parameters(config: dict[str, Any], finetune: FinetuneSettings) -> tuple[int, int]:
    """(all, trained) parameters of the model that this configuration makes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kept = {key: value for key, value in config.items() if key not in ("model_type", "quantization_config")}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **kept))
    parameters = sum(p.numel() for p in model.parameters())
    if finetune.method == "full":
        return parameters, parameters
    return parameters, sum(finetune.lora.rank * (i + o) for i, o in _adapted(model, finetune))


def _adapted(model: Any, finetune: FinetuneSettings) -> list[tuple[int, int]]:
    """(inputs, outputs) of each module that gets an adapter: as PEFT chooses them."""
    targets = finetune.lora.target_modules
    head = model.get_output_embeddings()
    found = []
    for name, module in model.named_modules():
        if module is head or type(module).__name__ not in ("Linear", "Conv1D"):
            continue
        if targets == "all-linear" or name.rsplit(".", 1)[-1] in targets:
            inputs, outputs = module.weight.shape  # a Conv1D's is the other way round; the sum is the same
            found.append((int(inputs), int(outputs)))
    return found
