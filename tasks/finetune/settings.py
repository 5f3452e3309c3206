"""Settings of room `finetune`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.finetune.config.objective_settings import (
    ClassifySettings,
    DistillSettings,
    GrpoSettings,
    KtoSettings,
    Objective,
    PreferenceSettings,
)
from tasks.finetune.config.preflight import misfit, misplaced_head, misplaced_prompts, missing_judge
from tasks.finetune.config.search_settings import SearchSettings, require_searchable
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


class TrainingSettings(Settings):
    """One training."""

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

    @model_validator(mode="after")
    def has_rows_of_its_batches(self) -> Self:
        if self.batches == "by_length" and self.objective not in ("sft", "pretrain"):
            raise ValueError(f"batches: by_length is for objective: sft and pretrain, not {self.objective}")
        return self

    @model_validator(mode="after")
    def fits_its_objective(self) -> Self:
        if what := misfit(self):
            raise ValueError(what)
        return self


class FinetuneSettings(TrainingSettings):
    before: tuple[TrainingSettings, ...] = ()
    """Trainings that come first, each on the result of the one before: `pretrain` before `sft`, `sft` and `reward` before `grpo`.
    A reward model is trained on that result too, and nothing goes on from it: it judges what comes after."""
    continue_from: Literal["base", "champion"] = "base"
    """`champion` trains the champion's weights on, with the rows that are new since it was made and a share of the old ones. Before
    there is a champion, the base is trained."""
    replay_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """With `continue_from: champion`: the share of the rows that the champion knows already that is trained on again."""

    search: SearchSettings | None = None
    """Tries settings of the last training, and keeps the best by validation loss; null trains it as it is written."""
    launch: LaunchSettings = LaunchSettings()
    """In how many processes the trainings run."""

    @model_validator(mode="after")
    def can_be_searched_and_shared(self) -> Self:
        if self.search is not None:
            require_searchable(self.search, self)
            if self.launch.nodes > 1:
                raise ValueError("`search` runs on one node: set launch.nodes: 1")
        for training in self.trainings():
            if training.gradient_accumulation_steps % self.launch.all_processes:
                what = f"gradient_accumulation_steps is {training.gradient_accumulation_steps}, which"
                raise ValueError(f"{what} {self.launch.all_processes} processes cannot share: take a multiple of them")
        return self

    @model_validator(mode="after")
    def go_on_from_one_another(self) -> Self:
        trainings = self.trainings()
        if what := missing_judge(trainings) or misplaced_head(trainings) or misplaced_prompts(trainings):
            raise ValueError(what)
        return self

    def trainings(self) -> tuple[TrainingSettings, ...]:
        """All of them, in order; the last is what becomes the candidate."""
        return (*self.before, self)

    def precisions(self) -> list[Literal["auto", "bf16", "fp32"]]:
        """Those that the trainings, and the trials of a search, may choose, each once."""
        chosen = {training.precision for training in self.trainings()}
        if self.search is not None and "precision" in self.search.parameters:
            chosen.update(self.search.parameters["precision"].choices or ())
        return sorted(chosen)
