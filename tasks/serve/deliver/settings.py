"""Settings of the delivery to MLflow, and of the answers that people should look at."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Settings


class DeliverSettings(Settings):
    is_on: bool = True
    """Whether responses and feedback become traces in the experiment of the model in MLflow, with the texts that the records have.
    Without a registry nothing is delivered, and none is created."""
    seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    """How often new records are delivered. After a failure the waits become longer, up to a minute."""


class ReviewSettings(Settings):
    per_day: Annotated[int, Field(ge=0, le=10_000)] = 20
    """Most answers a day (UTC) that are added to the review queue; 0: none. They are degenerate, or could not be read, or
    champion and challenger differ, or they are in `slice`; in the order in which they were given."""
    slice: Annotated[str, Field(min_length=1)] | None = None
    """A condition on further answers, such as `family == 'qa' and length(answer) > 500`. Columns: `prompt`, `answer`, `family`,
    `template`, `model`, `engine`, `key`, `arm`, `reason`, `path` (texts), `version`, `prompt_tokens`, `tokens`, `seconds`
    (numbers), `is_shadow`, `is_shortened` (true or false)."""
    share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """The share of the answers of `slice`, by their id."""
    least_agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """An answer of the champion and a shadow answer to the same request differ if their token F1 is lower; labels and JSON values
    if they are not equal. 0: they never do."""
    reviewers: Annotated[tuple[str, ...], Field(max_length=10)] = ()
    """MLflow users to whom a new queue is assigned."""
