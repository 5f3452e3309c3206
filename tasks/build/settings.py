"""Settings of room `build`: the recipes by which instruction rows are made."""

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
"""Kind of recipe → what it needs, and what it may say besides."""


class Generator(Settings):
    """A model that writes: behind an OpenAI-compatible endpoint, or on this machine."""

    model: str
    """With `base_url`: the model's name there. Without: `champion`, `base`, a version's number, or a folder with a model."""
    base_url: str | None = None
    """The endpoint, with its version: `https://api.example.com/v1`. None: the model runs on this machine. A password in it is
    the name of an environment variable: `https://me:${PASSWORD}@…`."""
    api: Literal["chat", "completions"] = "chat"
    """Which of the endpoint's interfaces is asked: `chat/completions`, or `completions` for a model that goes on with a text."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key; the key itself never stands here."""
    max_tokens: Count = 1024
    """Longest answer, in tokens."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """0 takes the likeliest token each time; higher is more varied."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Draw from the likeliest tokens that hold this much probability."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one answer of an endpoint."""
    attempts: Count = 5
    """How often an endpoint is asked for the same answer, with growing pauses, before the recipe stops."""
    parallel_requests: Count = 4
    """Requests under way at once; on this machine, prompts in a batch."""

    @model_validator(mode="after")
    def endpoint_is_one(self) -> "Generator":
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://", "${")):
            raise ValueError("base_url begins with http:// or https://")
        if self.base_url is None and self.api_key_env is not None:
            raise ValueError("api_key_env belongs to base_url; a model on this machine needs no key")
        return self


class RowTemplate(Settings):
    """How a record becomes a row: Jinja, in a sandbox. A field that the record lacks refuses the record."""

    instruction: str = ""
    """What to do: `What does {{ product }} cost?`"""
    input: str = ""
    """What to do it to."""
    output: str
    """The answer: `{{ product }} costs {{ price }} euros.`"""


class Recipe(Settings):
    name: Name
    """The recipe's name: its folder below `build.folder`, and what `synthetic` says of its rows."""
    kind: Literal["records", "self_instruct", "paraphrase", "back_translation"]
    """`records` (structured records through templates), `self_instruct` (new tasks from seed tasks, as arXiv 2212.10560),
    `paraphrase` (instructions of held rows in other words) or `back_translation` (there and back through a language)."""
    rows: Count = 1000
    """At most this many rows are made."""
    seed: Seed = 17
    """Seeds every draw: equal recipes ask equal questions, so that an interrupted one goes on where it stopped."""
    records: str | None = None
    """records: the files, `.jsonl` or `.csv`, as a path or a glob."""
    templates: tuple[RowTemplate, ...] = ()
    """records: each record goes through each template."""
    seeds: str | None = None
    """self_instruct: the seed tasks, JSONL: `{instruction, instances: [{input, output}], is_classification}`."""
    language: Literal["en", "zh"] = "en"
    """self_instruct: the language that the model is asked in."""
    examples: Annotated[int, Field(ge=2)] = 8
    """self_instruct: tasks shown in a prompt; a quarter of them made ones, as soon as there are any."""
    prompts_per_round: Count = 8
    """self_instruct: prompts for new instructions between two looks at the pool."""
    max_rounds: Count = 100
    """self_instruct: rounds after which it stops, though there are fewer than `rows`."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.7
    """self_instruct: an instruction whose ROUGE-L with any in the pool is at least this is refused."""
    family: Name | None = None
    """paraphrase, back_translation: the family of the rows that are taken as parents."""
    field: Literal["instruction", "input"] = "instruction"
    """paraphrase, back_translation: what is said in other words; the rest of the row, and the answer, stay the parent's."""
    copies: Count = 1
    """paraphrase, back_translation: rows made of each parent."""
    through: str | None = None
    """back_translation: the language in between, as the translator understands it: `de`, `French`, ..."""
    translator: str | None = None
    """back_translation: `module:function`, called with (texts, to_language), which returns as many texts. Or a `generator`."""
    generator: Generator | None = None
    """self_instruct, paraphrase, back_translation: the model that writes."""

    @model_validator(mode="after")
    def says_what_its_kind_needs(self) -> "Recipe":
        needed, allowed = _KINDS[self.kind]
        if missing := sorted(name for name in needed if not getattr(self, name)):
            raise ValueError(f"kind `{self.kind}` needs {', '.join(missing)}")
        if foreign := sorted(self.model_fields_set - needed - allowed - _ALWAYS):
            may = ", ".join(sorted(needed | allowed | _ALWAYS))
            raise ValueError(f"kind `{self.kind}` has no {', '.join(foreign)}; it has {may}")
        if self.kind == "back_translation" and (self.generator is None) == (self.translator is None):
            raise ValueError("kind `back_translation` needs one of generator and translator")
        return self


class BuildSettings(Settings):
    folder: str = "inbox/built"
    """Where the rows are written: `<folder>/<recipe>/<number>.jsonl`, never changed afterwards. A source with `shape: row`
    and a path such as `inbox/built/faq/*.jsonl` collects them: they meet the contract, and everything else, as any rows do."""
    recipes: tuple[Recipe, ...] = ()
    """What `strop data build` makes."""

    @model_validator(mode="after")
    def names_differ(self) -> "BuildSettings":
        names = [recipe.name for recipe in self.recipes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two recipes are named {', '.join(twice)}; a name may stand once")
        return self
