"""Settings of room `render`."""

from typing import Annotated

from pydantic import Field, model_validator

from tasks.settings import Settings


class RenderSettings(Settings):
    max_length_tokens: Annotated[int, Field(ge=8)] = 512
    """Longest example. A longer one is cut from its input, never from its answer."""
    pack_length_tokens: Annotated[int, Field(ge=8)] = 1024
    """Length of a packed row: several examples side by side, each with positions of its own."""

    @model_validator(mode="after")
    def an_example_fits_a_row(self) -> "RenderSettings":
        if self.pack_length_tokens < self.max_length_tokens:
            raise ValueError("pack_length_tokens must be at least max_length_tokens, or an example may not fit a row")
        return self
