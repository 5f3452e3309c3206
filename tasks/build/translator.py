"""A user's translation function as a generator."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.build.generator import OnAnswer, ignore_answer
from tasks.errors import ConfigError, DataError


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
