"""A base whose tokenizer starts texts with a begin token gets it once, in training, evaluation and chat (case 23)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.project import REPOSITORY, begin_round, params, write_params
from support.rawtext import write_texts_and_answers
from support.toy_rows import toy_rows
from support.toychat import CHATML, chat_tokenizer, save_llama

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import TEST, read_rendered
from tasks.evaluate.likelihood import start_ids, text_losses
from tasks.prompts.chat_prompts import Prompts
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Example, Renderer
from tasks.render.stage import run as render
from tasks.runtime.files import canonical_json

FAMILIES = read_templates(REPOSITORY / "data/templates")
NAMED = sorted(path.stem for path in (REPOSITORY / "data/templates/chat").glob("*.jinja"))
WITH_BEGIN = "{{ bos_token }}" + CHATML
REFUSING_ONE_TURN = "{{ bos_token }}{% if messages|length < 2 %}{{ raise_exception('two turns') }}{% endif %}" + CHATML


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has no chat template of its own."""
    return save_llama(tmp_path_factory.mktemp("begins") / "base", chat_tokenizer("", begins=True))


def row(**fields: str) -> dict[str, Any]:
    start = {"row_id": "0" * 32, "family": "dialogue", "language": "en", "system": "", "history": "[]", "tools": ""}
    return {**start, "instruction": "", "input": "Who?", "output": "Ann did.", **fields}


@pytest.mark.parametrize("system", ["", "Be kind."])
@pytest.mark.parametrize("name", ["own", *NAMED])
def test_case_23_every_chat_template_begins_with_one_begin_token(
    project: Path, base: Path, tmp_path: Path, name: str, system: str
) -> None:
    tokenizer = load_tokenizer(base, name)
    begin = tokenizer.bos_token_id
    (example,) = Renderer(tokenizer, 512).render([row(system=system)], lambda _: FAMILIES["dialogue"].templates[0])
    assert isinstance(example, Example)
    assert example.ids[0] == begin
    assert example.ids.tolist().count(begin) == 1
    served = Prompts(tokenizer).of_chat(example.conversation.messages[:-1])
    assert served == example.prompt_ids
    # saved with the model, it is what another server's prompt begins with, and what is loaded again adds none
    tokenizer.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.chat_template == tokenizer.chat_template
    messages = example.conversation.messages[:-1]
    assert again.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) == served


def test_a_dialogue_begins_with_one(project: Path, base: Path) -> None:
    history = canonical_json([["user", "Hi"], ["assistant", "Hello."]])
    for name in NAMED:
        tokenizer = load_tokenizer(base, name)
        (example,) = Renderer(tokenizer, 512, all_turns=True).render(
            [row(history=history)], lambda _: FAMILIES["dialogue"].templates[0]
        )
        assert isinstance(example, Example)
        assert example.ids.tolist().count(tokenizer.bos_token_id) == 1, name


@pytest.mark.parametrize("template", [CHATML, WITH_BEGIN, REFUSING_ONE_TURN])
def test_a_models_own_chat_template_is_given_the_begin_token_that_it_lacks(tmp_path: Path, template: str) -> None:
    tokenizer = load_tokenizer(save_llama(tmp_path / "base", chat_tokenizer(template, begins=True)))
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    assert tokenizer.apply_chat_template(messages, return_dict=False).count(tokenizer.bos_token_id) == 1


def test_a_base_that_begins_its_texts_with_nothing_is_left_as_it_is(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_llama(tmp_path / "base", chat_tokenizer(CHATML)))
    assert tokenizer.chat_template == CHATML


def test_raw_text_begins_with_one_which_is_not_trained_and_is_judged_behind_one(project: Path, base: Path) -> None:
    lengths = {"max_length_tokens": 16, "pack_length_tokens": 32}
    write_params(project, params(base, [], finetune={"objective": "pretrain"}, render=lengths))
    config = load_config()
    begin_round(config)
    write_texts_and_answers()
    curate(config)
    render(config)
    tokenizer, rendered = load_tokenizer(base), read_rendered("train", "texts")
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pieces: dict[bytes, list[list[int]]] = {}
    for (first, last), row_id in zip(itertools.pairwise(rendered.examples), rendered.ids.tolist(), strict=True):
        ids = rendered.input_ids[first:last].tolist()
        assert (rendered.loss_mask[first:last] == [token != begin for token in ids]).all()
        pieces.setdefault(row_id, []).append(ids)
    assert len(pieces) > 20
    for of_row in pieces.values():
        assert sorted(ids.count(begin) for ids in of_row) == [0] * (len(of_row) - 1) + [1]
        assert sum(ids[0] == begin for ids in of_row) == 1
        assert sum(ids.count(end) for ids in of_row) == 1
    for test in pq.read_table(TEST).to_pylist():
        assert begin not in test["prompt_ids"]
    assert start_ids(tokenizer) == [begin]
    assert paths.RENDERED.is_dir()
    assert toy_rows()


def test_a_text_is_judged_behind_all_that_its_tokenizer_begins_with() -> None:
    seen: list[list[int]] = []

    def losses(_: Any, examples: Any) -> list[tuple[float, int]]:
        seen.extend(ids.tolist() for ids, _ in examples)
        return [(1.0, int(mask.sum())) for _, mask in examples]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.evaluate.likelihood.answer_losses", losses)
        patch.setattr("tasks.evaluate.likelihood.max_input_tokens", lambda _: 5)
        assert text_losses(None, [[7, 8, 9, 10]], [1, 2]) == [2.0]
    assert seen == [[1, 2, 7, 8, 9], [1, 2, 10]]


def test_a_text_to_go_on_with_begins_with_one(base: Path, project: Path) -> None:
    tokenizer = load_tokenizer(base)
    ids = Prompts(tokenizer).of_text("The <s> match")
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
