"""Settings of room `retention`."""

from typing import Annotated

from pydantic import Field

from tasks.runtime.base_settings import Settings

Count = Annotated[int, Field(ge=0)]


class RetentionSettings(Settings):
    refused_candidates: Count = 3
    """How many of the newest candidates that were refused, inconclusive or rejected keep model, rendered rows and predictions.
    `strop gc` retires the earlier ones; their commit, receipt, dataset, metrics and verdict stay. Versions that passed the gate or
    have served are never retired, nor those that an alias, params.yaml or the training of another version names."""
    checkpoints: Count = 1
    """How many interrupted trainings keep their checkpoints, the newest first. A finished training has none."""
    cache_days: Count = 30
    """Days without use after which `strop gc` removes entries of the caches in `.strop`, outputs of trainings that never became a
    version, and weights in `.strop/models` that no version has."""
    served_days: Annotated[int, Field(ge=1)] = 90
    """Days that requests, answers and feedback of a server are kept in `.strop/serve/spool`; as long is feedback on an answer
    accepted. A server removes older files itself, and `strop gc` those of servers that no longer run."""
