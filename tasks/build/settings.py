"""Settings of room `build`: the recipes that generate instruction rows."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from tasks.runtime.base_settings import Seed, Settings

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

_ALWAYS = {"name", "kind", "rows", "seed"}
_OF_ROWS = {"family", "field", "copies"}
_KINDS: dict[str, tuple[set[str], set[str]]] = {
    "records": ({"records", "templates"}, set()),
    "self_instruct": (
        {"seeds", "generator"},
        {"language", "examples", "prompts_per_round", "max_rounds", "max_similarity"},
    ),
    "paraphrase": ({"family", "generator"}, _OF_ROWS),
    "back_translation": ({"family", "through"}, {*_OF_ROWS, "generator", "translator"}),
}
"""Kind of recipe → its required settings, and its optional ones."""


class Generator(Settings):
    """A model that generates text: behind an OpenAI-compatible endpoint, or on this machine."""

    model: str
    """With `base_url`: the model's name there. Without: `champion`, `base`, a version's number, or a folder with a model."""
    base_url: str | None = None
    """The endpoint, with its version: `https://api.example.com/v1`. None: the model runs on this machine. A password in it is
    the name of an environment variable: `https://me:${PASSWORD}@…`."""
    api: Literal["chat", "completions"] = "chat"
    """The endpoint's interface: `chat/completions`, or `completions` for a model that continues a text."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key; the key itself is never in params.yaml."""
    max_tokens: Count = 1024
    """Longest answer, in tokens."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Sampling temperature; 0: always the most probable token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Sample from the most probable tokens with this total probability."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one answer of an endpoint."""
    attempts: Count = 5
    """Maximum number of requests for one answer of an endpoint, with growing pauses, before the recipe stops."""
    parallel_requests: Count = 4
    """Requests in parallel; on this machine, prompts in a batch."""

    @model_validator(mode="after")
    def endpoint_is_valid(self) -> "Generator":
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://", "${")):
            raise ValueError("base_url begins with http:// or https://")
        if self.base_url is None and self.api_key_env is not None:
            raise ValueError("api_key_env belongs to base_url; a model on this machine needs no key")
        return self


class RowTemplate(Settings):
    """Turns a record into a row: Jinja, in a sandbox. A record without a named field is refused."""

    instruction: str = ""
    """The instruction: `What does {{ product }} cost?`"""
    input: str = ""
    """The input."""
    output: str
    """The answer: `{{ product }} costs {{ price }} euros.`"""


class Recipe(Settings):
    name: Name
    """The recipe's name: its folder below `build.folder`, and the value of `synthetic` of its rows."""
    kind: Literal["records", "self_instruct", "paraphrase", "back_translation"]
    """`records` (structured records through templates), `self_instruct` (new tasks from seed tasks, as arXiv 2212.10560),
    `paraphrase` (instructions of the dataset's rows in other words) or `back_translation` (into another language and back)."""
    rows: Count = 1000
    """Maximum number of generated rows."""
    seed: Seed = 17
    """Seeds every draw: equal recipes have equal prompts, so that an interrupted one continues where it stopped."""
    records: str | None = None
    """records: the files, `.jsonl` or `.csv`, as a path or a glob."""
    templates: tuple[RowTemplate, ...] = ()
    """records: each record goes through each template."""
    seeds: str | None = None
    """self_instruct: the seed tasks, JSONL: `{instruction, instances: [{input, output}], is_classification}`."""
    language: Literal["en", "zh"] = "en"
    """self_instruct: the language of the prompts."""
    examples: Annotated[int, Field(ge=2)] = 8
    """self_instruct: tasks shown in a prompt; a quarter of them are generated ones, as soon as there are any."""
    prompts_per_round: Count = 8
    """self_instruct: prompts for new instructions in a round."""
    max_rounds: Count = 100
    """self_instruct: maximum number of rounds, also if there are fewer than `rows`."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.7
    """self_instruct: an instruction whose ROUGE-L with any in the pool is at least this is refused."""
    family: Name | None = None
    """paraphrase, back_translation: the family of the parent rows."""
    field: Literal["instruction", "input"] = "instruction"
    """paraphrase, back_translation: the field that is reworded; the rest of the row, and the answer, are the parent's."""
    copies: Count = 1
    """paraphrase, back_translation: rows generated from each parent."""
    through: str | None = None
    """back_translation: the intermediate language, as the translator names it: `de`, `French`, ..."""
    translator: str | None = None
    """back_translation: `module:function`, called with (texts, to_language), which returns as many texts. Or a `generator`."""
    generator: Generator | None = None
    """self_instruct, paraphrase, back_translation: the model that generates the text."""

    @model_validator(mode="after")
    def has_the_settings_of_its_kind(self) -> "Recipe":
        required, optional = _KINDS[self.kind]
        if missing := sorted(name for name in required if not getattr(self, name)):
            raise ValueError(f"kind `{self.kind}` needs {', '.join(missing)}")
        if unknown := sorted(self.model_fields_set - required - optional - _ALWAYS):
            known = ", ".join(sorted(required | optional | _ALWAYS))
            raise ValueError(f"kind `{self.kind}` has no {', '.join(unknown)}; it has {known}")
        if self.kind == "back_translation" and (self.generator is None) == (self.translator is None):
            raise ValueError("kind `back_translation` needs one of generator and translator")
        return self


class BuildSettings(Settings):
    folder: str = "inbox/built"
    """Where the rows are written: `<folder>/<recipe>/<number>.jsonl`, never changed afterwards. A source with `shape: row`
    and a path such as `inbox/built/faq/*.jsonl` collects them, and they are validated and curated like any other row."""
    recipes: tuple[Recipe, ...] = ()
    """The recipes of `strop data build`."""

    @model_validator(mode="after")
    def names_differ(self) -> "BuildSettings":
        names = [recipe.name for recipe in self.recipes]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two recipes are named {', '.join(repeated)}; names must be unique")
        return self
