"""Settings of room `evaluate`."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.evaluate.code.settings import CodeSettings
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.inference.settings import ServerSettings
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
    engine: ServerSettings | None = None
    """A server that generates the answers in place of the embedded engine, such as vLLM or SGLang in an environment of their own
    ([generation](evaluation.md#generation)). Losses, likelihoods and predictions of models with a head are computed in
    this process."""
    encoder: Annotated[str, Field(min_length=1)] | None = None
    """A sentence encoder, by which the semantic similarity of answers and targets is reported: a folder or a hub id
    (`sentence-transformers/all-MiniLM-L6-v2`). Scores do not depend on it. Without it, no similarity is computed. After a change of
    its files: `dvc repro --force evaluate`."""
    latency_rows: Annotated[int, Field(ge=0)] = 0
    """Answers of each model that are generated once more, one by one, to measure seconds per answer and tokens per second; 0: none.
    Times differ from run to run. With them, every evaluation loads every model."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """Price of such a machine per hour, in any currency: with `latency_rows`, metrics.json has the cost of 1,000 answers."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals in reports."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    """Resamples of a bootstrap interval."""
    seed: Seed = 17
    """Seeds the bootstrap."""
    code: CodeSettings = CodeSettings()
    """How answers of code are scored ([code by execution](evaluation.md#code-by-execution))."""
    judge: JudgeSettings | None = None
    """A model that compares the candidate's free-form answers with the champion's ([the judge](judge.md)); none by default."""
