"""The base class of every room's settings: strict, frozen, each field documented below it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seed = Annotated[int, Field(ge=0, le=2**32 - 2)]
"""The range that numpy, torch and Optuna accept, also for seed + 1 in a second process."""
Processes = Annotated[int, Field(ge=1, le=1024)]


class Settings(BaseModel):
    """A section of params.yaml. An unknown key is an error; values do not change after parsing, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
