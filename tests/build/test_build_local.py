"""A model on this machine generates text: a folder, the base, or a registered version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.project import params, write_params

from tasks.build.generator import CutOff
from tasks.build.local import LocalModel
from tasks.build.settings import Generator
from tasks.build.stage import open_generator
from tasks.config import load_config
from tasks.errors import DataError, RegistryError


@pytest.fixture
def local(project: Path, tiny_llama: Path) -> Any:
    """Opens a generator in a project whose base is a tiny model."""
    write_params(project, params(tiny_llama, []))

    def make(model: str, **settings: Any) -> LocalModel:
        defaults = {"model": model, "max_tokens": 6, "parallel_requests": 2}
        generator = open_generator(Generator(**{**defaults, **settings}), load_config(), seed=3)
        assert isinstance(generator, LocalModel)
        return generator

    return make


def test_a_folder_and_the_base_answer_each_prompt_and_pass_each_answer_on(local: Any, tiny_llama: Path) -> None:
    prompts = ["Name a city.", "说一个城市", "A longer prompt that stands first in its batch."]
    for model in (str(tiny_llama), "base"):
        kept: dict[int, str] = {}
        answers = local(model).complete(prompts, kept.__setitem__)
        assert len(answers) == 3
        assert any(answers)
        assert [kept[index] for index in range(3)] == answers
        assert local(model).complete(prompts) == answers, "the same seed samples the same answers"
    greedy = local("base", temperature=0.0, api="completions")
    assert greedy.complete(prompts) == greedy.complete(prompts)


def test_an_answer_without_an_end_token_is_marked_as_cut_off(local: Any) -> None:
    model = local("base")
    (cut,) = model.complete(["Name a city."])
    assert isinstance(cut, CutOff)
    model._loaded[0].generation_config.eos_token_id = list(range(512))  # so that any token ends the answer
    (whole,) = model.complete(["Name a city."])
    assert not isinstance(whole, CutOff)


def test_a_missing_version_is_reported(local: Any) -> None:
    for model in ("champion", "7", "no/such/folder"):
        with pytest.raises(RegistryError, match="no such model"):
            local(model).complete(["x"])


def test_a_prompt_longer_than_the_context_is_reported(local: Any) -> None:
    with pytest.raises(DataError, match=r"a prompt has .* tokens, but the context of the model is 512"):
        local("base").complete(["word " * 600])
