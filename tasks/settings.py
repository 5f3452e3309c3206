"""The base of every room's settings: strict, frozen, and documented under each field."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of params.yaml. An unknown key is an error; values do not change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
