"""The settings of one training, each by itself."""

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
    """Rank of the adapters; a higher one learns more and costs memory."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """Scale of the adapters: their output counts alpha / rank."""
    dropout: Share = 0.0
    """Dropout on the adapters' input."""
    target_modules: Literal["all-linear"] | Annotated[tuple[Text, ...], Field(min_length=1)] = "all-linear"
    """Which modules get an adapter: every linear layer but the head, or a list of names."""


class FreezeSettings(Settings):
    last_layers: Annotated[int, Field(ge=0)] = 2
    """So many of the last layers are trained."""
    embeddings: bool = False
    """Are the token embeddings trained? Where the head shares their weights, it is then trained too."""
    head: bool = False
    """Is the output head trained?"""
    modules: tuple[Text, ...] = ()
    """Other parameters that are trained: those whose name contains one of these."""


class PromptSettings(Settings):
    kind: Literal["prompt", "prefix"] = "prompt"
    """`prompt` puts trained vectors before the tokens, `prefix` before the keys and values of every layer."""
    virtual_tokens: Count = 20
    """How many."""


class TrainingFields(Settings):
    """What may be set of one training; what does not go together is refused by `TrainingSettings` (settings.py)."""

    objective: Objective = "sft"
    """What is learned, and so which rows teach it. `sft`: answers. `pretrain`: raw text, every token of it. `classify`: labels, by
    a head of their own. `dpo`, `orpo`: the better of two answers; `kto`: answers judged good or bad; `reward`: a model that
    scores answers. `grpo`: its own answers, by how they are rewarded. `distill`: answers, as a teacher would give them."""
    method: Literal["lora", "dora", "qlora", "prompt", "freeze", "full"] = "lora"
    """`lora` trains small adapters on a frozen base (`dora` splits them into size and direction, `qlora` keeps the base in
    4 bits and needs a GPU), `prompt` vectors before the input, `freeze` some layers, `full` every weight."""
    lora: LoraSettings = LoraSettings()
    """The adapters, for `method: lora`, `dora` and `qlora`."""
    freeze: FreezeSettings = FreezeSettings()
    """What is trained, for `method: freeze`."""
    prompt: PromptSettings = PromptSettings()
    """The vectors, for `method: prompt`."""
    loss_on: Literal["answers", "all"] = "answers"
    """Which tokens are learned: the answers' alone, or the prompts' as well."""
    label_smoothing: Share = 0.0
    """Share of each target that is spread evenly over the vocabulary."""
    neftune_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Noise on the token embeddings while training, scaled by alpha / sqrt(tokens of the example x width); 0 is none, 5 is usual
    (Jain et al., 2023)."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """How often each row is seen."""
    max_steps: Count | None = None
    """Stops after this many optimiser steps, whatever `epochs` says."""
    batches: Literal["packed", "by_length"] = "packed"
    """`packed` lays examples side by side in rows without padding; `by_length` trains examples of similar length together, padded,
    and then `micro_batch_rows` counts examples. For `sft` and `pretrain`."""
    micro_batch_rows: Count = 1
    """Packed rows in one forward pass; pairs or answers where preferences are learned, prompts (each with all of its answers) for
    `grpo`."""
    gradient_accumulation_steps: Count = 1
    """Forward passes an optimiser step: the global batch is this times `micro_batch_rows`, in packed rows."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """The optimiser."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after warm-up, as transformers computes it: `cosine`, `linear`, `constant`, `polynomial`,
    `inverse_sqrt`, `cosine_with_restarts`, `cosine_with_min_lr`, `cosine_warmup_with_min_lr` or `warmup_stable_decay`.
    What one takes beside that goes under `trainer: {lr_scheduler_kwargs: ...}`: those with `min_lr` need it there
    (or `min_lr_rate`, a share), `warmup_stable_decay` needs `num_decay_steps`."""
    warmup_share: Share = 0.03
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay of the weights, decoupled (AdamW) or L2 (SGD)."""
    dropout: Share = 0.0
    """Dropout of the model itself, where its configuration has one; 0 leaves none."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """`auto`: bf16 where the processor or GPU computes in it, else fp32. The receipt says which it was."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    evaluations_per_epoch: Annotated[int, Field(ge=0)] = 1
    """How often an epoch the validation loss is measured; 0 never."""
    early_stopping_patience: Count | None = None
    """Stops after this many measurements without a better validation loss, and keeps the best weights."""
    checkpoint_every_steps: Count = 50
    """Steps between checkpoints. An interrupted run goes on from the last one."""
    deterministic: bool = False
    """On a GPU: the same weights again, bit for bit, at some cost in speed. On a CPU they are the same anyhow."""
    seed: Seed = 17
    """Seeds weights, dropout and the order of rows."""
    trainer: dict[str, Any] = {}
    """Any other field of transformers.TrainingArguments, such as `adam_beta2: 0.95` or `optim: adafactor`."""
    threads: Processes | None = None
    """CPU threads of each process; null follows physical cores, CPU quota and load, also while it trains. The weights' last bits
    may depend on it, so the receipt holds it, and each step at which it changed."""
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
