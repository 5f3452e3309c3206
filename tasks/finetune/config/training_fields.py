"""The settings of one training, without checks of their combinations."""

from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.finetune.config.objective_settings import (
    ClassifySettings,
    DistillSettings,
    GrpoSettings,
    KtoSettings,
    Objective,
    PreferenceSettings,
)
from tasks.finetune.objective_table import OBJECTIVES, ObjectiveSpec
from tasks.runtime.base_settings import Processes, Seed, Settings

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
Schedule = Literal[
    "cosine",
    "linear",
    "constant",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]


class LoraSettings(Settings):
    rank: Count = 16
    """Rank of the adapters; a higher rank learns more and needs more memory."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """Scale of the adapters: their output is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapters' input."""
    target_modules: Literal["all-linear"] | Annotated[tuple[Text, ...], Field(min_length=1)] = "all-linear"
    """Modules with an adapter: every linear layer except the head, or a list of names."""


class FreezeSettings(Settings):
    last_layers: Annotated[int, Field(ge=0)] = 2
    """Number of trained layers, counted from the last."""
    embeddings: bool = False
    """Train the token embeddings? A head with tied weights is then trained, too."""
    head: bool = False
    """Train the output head?"""
    modules: tuple[Text, ...] = ()
    """Other trained parameters: those whose name contains one of these."""


class PromptSettings(Settings):
    kind: Literal["prompt", "prefix"] = "prompt"
    """`prompt` puts trained vectors before the tokens, `prefix` before the keys and values of every layer."""
    virtual_tokens: Count = 20
    """Number of trained vectors."""


class TrainingFields(Settings):
    """The fields of one training; `TrainingSettings` (settings.py) rejects invalid combinations."""

    objective: Objective = "sft"
    """The training objective, which also selects the rows. `sft`: answers. `pretrain`: all tokens of raw text. `classify`: labels,
    with a classification head. `dpo`, `orpo`: the better of two answers; `kto`: answers rated good or bad; `reward`: a model that
    scores answers. `grpo`: sampled answers, by their rewards. `distill`: answers and a teacher's token probabilities."""
    method: Literal["lora", "dora", "qlora", "prompt", "freeze", "full"] = "lora"
    """`lora` trains small adapters on a frozen base (`dora` splits them into size and direction, `qlora` keeps the base in
    4 bits and needs a GPU), `prompt` vectors before the input, `freeze` some layers, `full` every weight."""
    lora: LoraSettings = LoraSettings()
    """The adapters, for `method: lora`, `dora` and `qlora`."""
    freeze: FreezeSettings = FreezeSettings()
    """The trained parts, for `method: freeze`."""
    prompt: PromptSettings = PromptSettings()
    """The vectors, for `method: prompt`."""
    loss_on: Literal["answers", "all"] = "answers"
    """Tokens with a loss: those of answers only, or prompts as well."""
    label_smoothing: Share = 0.0
    """Share of each target that is spread uniformly over the vocabulary."""
    neftune_alpha: Annotated[float, Field(ge=0)] = 0.0
    """NEFTune noise on the token embeddings in training, scaled by alpha / sqrt(tokens of the example x width); 0: none, 5 is
    common (Jain et al., 2023)."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the training rows."""
    max_steps: Count | None = None
    """Stops after this many optimiser steps, regardless of `epochs`."""
    batches: Literal["packed", "by_length"] = "packed"
    """`packed` concatenates examples into rows without padding; `by_length` batches examples of similar length, padded, and
    `micro_batch_rows` then counts examples. For `sft` and `pretrain`."""
    micro_batch_rows: Count = 1
    """Packed rows per forward pass; pairs or answers for preference objectives, prompts (each with all of its answers) for
    `grpo`."""
    gradient_accumulation_steps: Count = 1
    """Forward passes per optimiser step: the global batch is this times `micro_batch_rows`, in packed rows."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """The optimiser."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """The learning-rate schedule of transformers after warm-up: `cosine`, `linear`, `constant`, `polynomial`,
    `inverse_sqrt`, `cosine_with_restarts`, `cosine_with_min_lr`, `cosine_warmup_with_min_lr` or `warmup_stable_decay`.
    Its arguments are set under `trainer: {lr_scheduler_kwargs: ...}`: those with `min_lr` need it there
    (or `min_lr_rate`, a share), `warmup_stable_decay` needs `num_decay_steps`."""
    warmup_share: Share = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay, decoupled (AdamW) or L2 (SGD)."""
    dropout: Share = 0.0
    """Dropout in the model's own layers, where its configuration has one; 0: none."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto`: bf16 where the CPU or GPU supports it natively, else fp32. The receipt records the choice."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    evaluations_per_epoch: Annotated[int, Field(ge=0)] = 1
    """Measurements of the validation loss per epoch; 0: never."""
    early_stopping_patience: Count | None = None
    """Stops after this many evaluations without a better validation loss, and keeps the best weights."""
    checkpoint_every_steps: Count = 50
    """Steps between checkpoints. An interrupted training resumes from the last one."""
    deterministic: bool = False
    """On a GPU: bit-identical weights in every run, at some cost in speed. On a CPU this always holds."""
    seed: Seed = 17
    """Seed of weights, dropout and row order."""
    trainer: dict[str, Any] = {}
    """Any other field of transformers.TrainingArguments, such as `adam_beta2: 0.95` or `optim: adafactor`."""
    threads: Processes | None = None
    """CPU threads per process; null follows physical cores, CPU quota and load, also during training. The last bits of the weights
    may depend on it, so the receipt records it and each step at which it changed."""
    classify: ClassifySettings = ClassifySettings()
    """For `objective: classify`."""
    preference: PreferenceSettings = PreferenceSettings()
    """For `objective: dpo` and `orpo`."""
    kto: KtoSettings = KtoSettings()
    """For `objective: kto`."""
    grpo: GrpoSettings = GrpoSettings()
    """For `objective: grpo`."""
    distill: DistillSettings = DistillSettings()
    """For `objective: distill`."""
    options: dict[str, Any] = {}
    """For an objective of a plugin: its own settings."""

    @property
    def spec(self) -> ObjectiveSpec:
        """The objective's entry in the table."""
        return OBJECTIVES[self.objective]
