"""Settings of room `render`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Processes, Settings


class BalanceRule(Settings):
    """A cap or a weight for some of the training rows: those that have the source, family and label named here."""

    source: str | None = None
    """Rows of this source; any source, where it is null."""
    family: str | None = None
    """Rows of this family."""
    label: str | None = None
    """Rows with this output."""
    each: tuple[Literal["source", "family", "label"], ...] = ()
    """Apply the rule per source, family or label: `each: [label]` with `max_rows: 500` caps every label at 500."""
    max_rows: Annotated[int, Field(ge=0)] | None = None
    """The most rows; they are selected by a hash of their ids."""
    weight: Annotated[float, Field(ge=0, le=100)] | None = None
    """How often each row is trained on per epoch: 0.5 takes half of the rows, 2 takes each row twice."""

    @model_validator(mode="after")
    def has_one_effect(self) -> "BalanceRule":
        if (self.max_rows is None) == (self.weight is None):
            raise ValueError("a rule has either max_rows or weight")
        return self

    def describe(self) -> str:
        """The rule as a short text for the report."""
        values = {name: getattr(self, name) for name in ("source", "family", "label")}
        names = [f"{name} {value}" for name, value in values.items() if value is not None]
        names += [f"each {' and '.join(self.each)}"] if self.each else []
        bound = f"max_rows {self.max_rows}" if self.max_rows is not None else f"weight {self.weight:g}"
        return f"{', '.join(names) or 'all'}: {bound}"


class RenderSettings(Settings):
    max_length_tokens: Annotated[int, Field(ge=8)] = 512
    """Most tokens of an example. A longer one is truncated in its input, never in its answer."""
    pack_length_tokens: Annotated[int, Field(ge=8)] = 1024
    """Tokens of a packed row: several examples, each with its own positions."""
    train_on: Literal["every", "last"] = "every"
    """The turns of the assistant that are trained. `every`: a dialogue with ten answers trains all ten in one example; the tokens
    before each answer equal the served prompt. `last`: only the last answer, which is also the evaluated one; for sources with one
    dialogue per turn (its answers would be trained repeatedly), or whose earlier answers should not be learnt."""
    processes: Processes | None = None
    """Processes that read and render rows (on Linux); by default one per core, or as many as the CPU quota allows, at most
    eight."""
    balance: tuple[BalanceRule, ...] = ()
    """Caps and weights for training rows, applied in order."""
    max_synthetic_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest share of synthetic rows (`strop data build`) among the training rows."""

    @model_validator(mode="after")
    def an_example_fits_a_row(self) -> "RenderSettings":
        if self.pack_length_tokens < self.max_length_tokens:
            raise ValueError("pack_length_tokens must be at least max_length_tokens, or an example may not fit a row")
        return self
