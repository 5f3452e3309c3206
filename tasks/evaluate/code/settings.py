"""Settings of the execution of code."""

from typing import Annotated

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings

Count = Annotated[int, Field(ge=1)]


class CodeSettings(Settings):
    execute: bool = False
    """Score the answers to rows with tests by running both in a sandbox, instead of comparing texts: 1 if all tests pass, else 0.
    Python on Linux with bubblewrap only ([the sandbox](security.md#code-that-models-write)); elsewhere it is an error."""
    cpu_seconds: Annotated[int, Field(ge=1, le=600)] = 5
    """CPU time of an answer with its tests. A program that waits ends after three times as long and 10 seconds."""
    memory_mb: Annotated[int, Field(ge=64)] = 512
    """Address space of a program, in MiB."""
    files_mb: Annotated[int, Field(ge=1)] = 16
    """Files that a program may write, in MiB of memory; they are removed at its end."""
    processes: Count | None = None
    """Programs that run at once; null: one a core."""
    pass_at: tuple[Count, ...] = ()
    """Values of k: pass@k is also estimated from sampled answers, and reported. The gate uses the greedy answer, which is not
    sampled."""
    samples: Annotated[int, Field(ge=1, le=1000)] = 20
    """Answers that are sampled for each row, for `pass_at`; at least its largest value. Each takes as long as a greedy one."""
    temperature: Annotated[float, Field(gt=0)] = 0.8
    """Sampling temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Samples among the most likely tokens with this total probability."""

    @model_validator(mode="after")
    def has_enough_samples(self) -> "CodeSettings":
        if self.pass_at and max(self.pass_at) > self.samples:
            raise ValueError(f"pass@{max(self.pass_at)} needs as many `samples`, not {self.samples}")
        return self
