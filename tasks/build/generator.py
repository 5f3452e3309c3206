"""What writes: the small interface, and the choice between an endpoint, a model on this machine, and a user's function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tasks.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tasks.build.settings import Generator as GeneratorSettings
    from tasks.config import PipelineConfig


class CutOff(str):
    """An answer that ends where it was cut off, at the generator's `max_tokens`: of no use but for what is whole in it."""


Keep = Callable[[int, str], None]
"""Hears each answer as soon as it is there: the place of its prompt, and the text. Called from one thread at a time."""


def keep_nothing(place: int, text: str) -> None:
    pass


class Generator(Protocol):
    def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
        """One answer a prompt, in order; a CutOff where it was not brought to its end.

        Raises:
            StropError: it cannot be reached, or refuses; `keep` has heard what was answered before.
        """
        ...


def open_generator(settings: GeneratorSettings, config: PipelineConfig, seed: int) -> Generator:
    """The generator that the settings name. Nothing is loaded or asked before its first use."""
    if settings.base_url is not None:
        from tasks.build.endpoint import Endpoint

        return Endpoint(settings)
    from tasks.build.local import LocalModel

    return LocalModel(settings, config, seed)


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
