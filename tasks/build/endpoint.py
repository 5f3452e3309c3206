"""A model behind an OpenAI-compatible endpoint, as a generator."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.build.generator import CutOff, OnAnswer, ignore_answer
from tasks.build.settings import Generator as GeneratorSettings
from tasks.inference.connection import Completion, Connection
from tasks.inference.endpoint import FIRST_PAUSE_SECONDS
from tasks.inference.endpoint import Endpoint as Client


class Endpoint:
    def __init__(self, settings: GeneratorSettings, first_pause_seconds: float = FIRST_PAUSE_SECONDS) -> None:
        assert settings.base_url is not None
        connection = Connection(**settings.model_dump(), owner="the recipe's generator")
        self._client = Client(connection, first_pause_seconds)

    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        """As Generator.complete.

        Raises:
            ConfigError: the environment variable with the key is not set.
            SourceError: the endpoint refuses, or all attempts of the settings failed.
        """
        completions = self._client.complete(prompts, lambda index, answer: on_answer(index, _text_of(answer)))
        return [_text_of(completion) for completion in completions]


def _text_of(completion: Completion) -> str:
    return CutOff(completion.text) if completion.is_cut else completion.text
