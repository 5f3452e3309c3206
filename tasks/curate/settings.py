"""Settings of room `curate`."""

from typing import Annotated

from pydantic import Field, model_validator

from tasks.settings import Settings

Share = Annotated[float, Field(ge=0, lt=1)]


class CurateSettings(Settings):
    valid_share: Share = 0.1
    """Share of rows held out for early stopping and perplexity."""
    test_share: Share = 0.2
    """Share of rows held out for the gate. They are never trained on."""
    split_salt: str = "strop"
    """Salt of the split. Changing it moves rows between sides: every earlier comparison is then void."""

    @model_validator(mode="after")
    def something_is_left_to_train_on(self) -> "CurateSettings":
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share together leave nothing to train on; their sum must be below 1")
        return self
