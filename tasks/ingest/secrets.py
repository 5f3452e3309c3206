"""Secrets of sources: their removal from messages, and their values. Detection: tasks/runtime/redaction/."""

from __future__ import annotations

from typing import Any

from tasks.errors import SourceError
from tasks.runtime.redaction import settings
from tasks.runtime.redaction.settings import with_variable_names


def without_secrets(error: SourceError, setting: Any) -> SourceError:
    """The error without secrets: a store or database may print the whole address."""
    what, where, fix = (with_variable_names(text or "", setting) for text in (error.what, error.where, error.fix))
    return SourceError(what, where=where or None, fix=fix or None)


def filled_in(value: Any, source: str) -> Any:
    """The setting with the values of environment variables in place of `${NAME}`.

    Raises:
        SourceError: a variable is not set.
    """

    def missing(name: str) -> SourceError:
        fix = f"Set it before the run: export {name}=…"
        return SourceError(f"the environment variable {name} is not set", where=f"source `{source}`", fix=fix)

    return settings.with_values(value, missing)
