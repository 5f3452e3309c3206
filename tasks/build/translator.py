"""A user's translation function as a generator."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.build.generator import Keep, keep_nothing
from tasks.errors import ConfigError, DataError


class Translator:
    """A user's `module:function`, called with (texts, to_language), as a generator of texts for one language."""

    def __init__(self, name: str, to_language: str) -> None:
        self.name, self.to_language = name, to_language

    def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
        function = _load_function(self.name)
        try:
            answers = list(function(list(prompts), self.to_language))
        except Exception as error:  # the user's code, whatever it raises, is the user's situation
            told = f"raised {type(error).__name__}: {error}"
            raise DataError(told, where=f"translator {self.name}", fix="Mend the function, then run again") from error
        if len(answers) != len(prompts) or not all(isinstance(answer, str) for answer in answers):
            told = f"was given {len(prompts)} texts and did not return as many texts"
            raise DataError(told, where=f"translator {self.name}", fix="Mend the function, then run again")
        for place, answer in enumerate(answers):
            keep(place, answer)
        return answers


def _load_function(name: str) -> Callable[[list[str], str], Sequence[str]]:
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # the user's module stands in the project, which need not be installed
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        fix = "Say module:function, with a module that stands in the project or is installed"
        raise ConfigError(f"cannot be found ({error})", where=f"translator {name}", fix=fix) from error
    if not callable(function):
        raise ConfigError("is no function", where=f"translator {name}", fix="Say module:function")
    return function  # type: ignore[no-any-return]
