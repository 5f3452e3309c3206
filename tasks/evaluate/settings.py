"""Settings of room `evaluate`."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.evaluate.code.settings import CodeSettings
from tasks.evaluate.forgetting_settings import InputPath, LmEvalSettings
from tasks.evaluate.judge.settings import JudgeSettings
from tasks.evaluate.probes.settings import ProbeSettings
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
    probes: ProbeSettings | None = None
    """Measures of robustness and bias by changed test rows ([probes](evaluation.md#probes)); none by default, all with `{}`."""
    code: CodeSettings = CodeSettings()
    """How answers of code are scored ([code by execution](evaluation.md#code-by-execution))."""
    judge: JudgeSettings | None = None
    """A model that compares the candidate's free-form answers with the champion's ([the judge](judge.md)); none by default."""
    anchors: InputPath | None = None
    """Rows that a project keeps fixed, which every model answers ([forgetting](evaluation.md#forgetting)): a file of JSON Lines
    below data/forgetting, or a folder of such files. A line has `family`, `input` and `output`, and optionally `instruction`,
    `system` and `history`."""
    lm_eval: LmEvalSettings | None = None
    """Tasks of lm-eval, by which forgetting is measured; they need the package `lm-eval`."""
    shots: Annotated[int, Field(ge=0, le=32)] = 0
    """Every model also answers each test row with this number of training rows of its family as examples before the question. It is
    reported beside the score without examples, by which the gate decides. It costs as much time as the test rows, and more for
    their longer prompts."""
