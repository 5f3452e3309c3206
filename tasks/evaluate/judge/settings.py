"""Settings of the pairwise judge."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from tasks.runtime.base_settings import Settings

Count = Annotated[int, Field(ge=1)]
FamilyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
FOLDER = "data/judges/"
DEFAULT_PREFERENCES = f"{FOLDER}preferences.jsonl"


class JudgeBudget(Settings):
    max_calls: Count = 2000
    """Maximum number of answers of the judge in one run; answers of earlier runs are stored and cost nothing. A pair takes two. A
    family whose pairs need more than is left is not begun."""
    max_tokens: Count = 2_000_000
    """Maximum number of tokens of prompts and answers in one run, as the endpoint counts them. The family at which it is spent has
    no judged verdict in this run; what was answered is stored."""


class JudgeSettings(Settings):
    base_url: str | None = None
    """The OpenAI-compatible endpoint, with its version: `https://api.example.com/v1`. A password in it is the name of an
    environment variable: `https://me:${PASSWORD}@…`. None: the judge is a model in this process."""
    model: str
    """The model's name there; without an endpoint, the folder or hub id of a model, which answers greedily."""
    families: Annotated[tuple[FamilyName, ...], Field(min_length=1)]
    """The families with free-form answers that it judges."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key; the key itself is never in params.yaml."""
    response_format: Literal["json_schema", "json_object", "text"] = "json_schema"
    """How a request demands JSON: by a field of this type, or, with `text`, in the prompt only. The answer is always checked."""
    max_answer_tokens: Count = 512
    """Longest answer of the judge, in tokens, with its thoughts."""
    temperature: Annotated[float, Field(ge=0)] | None = 0.0
    """Sampling temperature. None: the endpoint's own, for models that accept no other."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one answer."""
    attempts: Count = 5
    """Maximum number of requests for one answer, with growing pauses, before the judge is given up for this run."""
    parallel_requests: Count = 4
    """Requests in parallel."""
    budget: JudgeBudget = JudgeBudget()
    """What a run may cost."""
    preferences: str = DEFAULT_PREFERENCES
    """People's preferences, JSONL below data/judges: `{question, answer_a, answer_b, preferred: A, B or tie}`, and optionally
    `family` (whose rubric applies) and `target`; `strop judge import` writes them from MLflow's review. The judge decides only
    where it agrees with them; without the file, it reports."""
    least_kappa: Annotated[float, Field(ge=0, le=1)] = 0.4
    """The judge decides if the lower end of the interval of its Cohen's kappa with people is at least this value."""
    allow_same_family: bool = False
    """Let the judge decide even if its model is of the same family as the candidate's base (both `qwen`), or if one of the names
    does not tell: models prefer answers like their own."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, base_url: str | None) -> str | None:
        if base_url is not None and not base_url.startswith(("http://", "https://", "${")):
            raise ValueError("base_url begins with http:// or https://")
        return base_url

    @field_validator("preferences")
    @classmethod
    def _is_an_input_of_runs(cls, path: str) -> str:
        if not path.startswith(FOLDER) or ".." in path.split("/"):
            raise ValueError(f"the file is below {FOLDER}, so that it is an input of each version")
        if not path.endswith(".jsonl"):
            raise ValueError("the file's name ends in .jsonl: an erasure looks for rows in these")
        return path

    @model_validator(mode="after")
    def _is_greedy_here(self) -> Self:
        if self.base_url is None and (self.temperature or self.api_key_env):
            raise ValueError("temperature and api_key_env are those of an endpoint: set `base_url`, or remove them")
        return self
