"""Settings of room `evaluate`."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.runtime.base_settings import Seed, Settings


class EvaluateSettings(Settings):
    batch_rows: Annotated[int, Field(ge=1)] = 16
    """Rows generated at once."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    """Longest answer."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the weights while answering. `auto`: bf16 where the processor or GPU computes in it, else fp32, as in training;
    bf16 halves the memory, and is what a 7B model on one 24 GB GPU needs. The metrics say which it was."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals in reports."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of a bootstrap interval."""
    seed: Seed = 17
    """Seeds the bootstrap."""
