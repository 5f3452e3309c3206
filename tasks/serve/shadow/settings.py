"""Settings of `serve.shadow`: a version that answers unseen, beside the champion."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Settings


class ShadowSettings(Settings):
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of the champion's answers that the challenger repeats, after they were sent. It is loaded for that, and takes the
    memory of a model. 0: none."""
    queue: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Requests that wait for the challenger, which answers one at a time; further ones are dropped and counted."""
    load: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The part of `serve.limits.concurrency` in use above which requests are dropped, and the one under way is cancelled: on the
    same hardware it would slow the answers to users."""
