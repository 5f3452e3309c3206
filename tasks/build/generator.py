"""The interface of every generator, and a user's translation function as one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tasks.errors import ConfigError, DataError


class CutOff(str):
    """An answer that was cut off, at the generator's `max_tokens`: only its complete parts are of use."""


OnAnswer = Callable[[int, str], None]
"""Called with each answer as soon as it is there: the index of its prompt, and the text. Called from one thread at a time."""


def ignore_answer(index: int, text: str) -> None:
    pass


class Generator(Protocol):
    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        """One answer per prompt, in order; a CutOff if it is incomplete.

        Raises:
            StropError: it cannot be reached, or refuses; `on_answer` was called with all earlier answers.
        """
        ...


class Translator:
    """A user's `module:function`, called with (texts, to_language), as a generator of texts in one language."""

    def __init__(self, name: str, to_language: str) -> None:
        self.name, self.to_language = name, to_language

    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        function = _load_function(self.name)
        where, fix = f"translator {self.name}", "Fix the function, then run again"
        try:
            answers = list(function(list(prompts), self.to_language))
        except Exception as error:  # the user's code may raise anything
            raise DataError(f"raised {type(error).__name__}: {error}", where=where, fix=fix) from error
        if len(answers) != len(prompts) or not all(isinstance(answer, str) for answer in answers):
            raise DataError(f"got {len(prompts)} texts and did not return as many texts", where=where, fix=fix)
        for index, answer in enumerate(answers):
            on_answer(index, answer)
        return answers


def _load_function(name: str) -> Callable[[list[str], str], Sequence[str]]:
    module, _, attribute = name.partition(":")
    project = str(Path.cwd())
    if project not in sys.path:  # the user's module is in the project, which need not be installed
        sys.path.insert(0, project)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        fix = "Write module:function, with a module that is in the project or installed"
        raise ConfigError(f"cannot be imported ({error})", where=f"translator {name}", fix=fix) from error
    if not callable(function):
        raise ConfigError("is not a function", where=f"translator {name}", fix="Write module:function")
    return function  # type: ignore[no-any-return]
