"""Settings of room `render`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Processes, Settings


class BalanceRule(Settings):
    """A cap or a weight for some of the training rows: those that have the source, family and label named here."""

    source: str | None = None
    """Rows of this source; of any, where it is null."""
    family: str | None = None
    """Rows of this family."""
    label: str | None = None
    """Rows with this output."""
    each: tuple[Literal["source", "family", "label"], ...] = ()
    """Count each source, family or label on its own: `each: [label]` with `max_rows: 500` caps every label at 500."""
    max_rows: Annotated[int, Field(ge=0)] | None = None
    """At most so many of them; which, is decided by the rank of a hash."""
    weight: Annotated[float, Field(ge=0, le=100)] | None = None
    """How often each of them is trained on in an epoch: 0.5 takes half of them, 2 takes each twice."""

    @model_validator(mode="after")
    def it_does_something(self) -> "BalanceRule":
        if (self.max_rows is None) == (self.weight is None):
            raise ValueError("a rule has max_rows or weight, one of the two")
        return self

    def told(self) -> str:
        """The rule in a word for a report."""
        names = [
            f"{name} {value}" for name in ("source", "family", "label") if (value := getattr(self, name)) is not None
        ]
        names += [f"each {' and '.join(self.each)}"] if self.each else []
        bound = f"max_rows {self.max_rows}" if self.max_rows is not None else f"weight {self.weight:g}"
        return f"{', '.join(names) or 'all'}: {bound}"


class RenderSettings(Settings):
    max_length_tokens: Annotated[int, Field(ge=8)] = 512
    """Longest example. A longer one is cut from its input, never from its answer."""
    pack_length_tokens: Annotated[int, Field(ge=8)] = 1024
    """Length of a packed row: several examples side by side, each with positions of its own."""
    train_on: Literal["every", "last"] = "every"
    """Which turns of the assistant a dialogue is trained on. `every`: a dialogue of ten answers teaches ten, and is read once; what
    is served at each of them stands before it, token by token. `last`: only its last one, which is what is judged, for sources
    that bring a dialogue once a turn (it would be trained on again and again), or whose earlier answers are not to be learnt."""
    processes: Processes | None = None
    """Processes that read and render rows (on Linux); as many as there are cores, or as the CPU quota allows, up to eight, where
    null."""
    balance: tuple[BalanceRule, ...] = ()
    """Caps and weights for training rows, one after another."""
    max_synthetic_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest share of the training rows that may be made (`strop data build`) rather than collected."""

    @model_validator(mode="after")
    def an_example_fits_a_row(self) -> "RenderSettings":
        if self.pack_length_tokens < self.max_length_tokens:
            raise ValueError("pack_length_tokens must be at least max_length_tokens, or an example may not fit a row")
        return self
