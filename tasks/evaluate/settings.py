"""Settings of room `evaluate`."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.runtime.base_settings import Seed, Settings


class EvaluateSettings(Settings):
    batch_rows: Annotated[int, Field(ge=1)] = 32
    """Rows that a process generates at once, as far as its memory allows, and rows in a batch of a model with a head."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Processes that generate answers on a CPU, with one thread each; null: as many as there are free cores at the start."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    """Maximum length of an answer, in tokens."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the weights in evaluation. `auto`: bf16 where the processor or GPU supports it, else fp32, as in training.
    bf16 halves the memory: a 7B model on one 24 GB GPU needs it. The metrics record the precision."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals in reports."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of a bootstrap interval."""
    seed: Seed = 17
    """Seeds the bootstrap."""
