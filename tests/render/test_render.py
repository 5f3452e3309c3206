"""Room `render`: templates, the loss mask exact to the token, truncation, packing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.project import REPOSITORY, params, write_params
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.base.load import load_tokenizer
from tasks.base.pin import pin_base
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import TEMPLATES, TEST, read_rendered
from tasks.errors import ConfigError, DataError
from tasks.prompts.templates.fill_template import write_answer, write_question
from tasks.prompts.templates.templates import read_templates
from tasks.prompts.tokens.tokens import Dropped, Example, Renderer
from tasks.render.stage import run
from tasks.runtime.files import read_json

FAMILIES = read_templates(REPOSITORY / "data/templates")


def row(**fields: str) -> dict[str, Any]:
    start = {"row_id": "0" * 32, "family": "qa", "language": "en", "system": "", "history": "[]"}
    return {**start, "instruction": "Who?", "input": "We met Ann.", "output": "Ann did.", **fields}


@pytest.fixture
def config(project: Path, tiny_gpt2: Path) -> PipelineConfig:
    write_params(project, params(tiny_gpt2, []))
    pin_base(load_config().base)
    return load_config()


def test_an_undefined_variable_names_template_and_field(project: Path) -> None:
    Path("data/templates/qa.yaml").write_text('kind: qa\ntemplates: [{id: qa-1, language: en, user: "{{ inptu }}"}]\n')
    with pytest.raises(ConfigError, match=r"template qa-1: 'inptu' is undefined"):
        write_question(read_templates()["qa"].templates[0], row())


ODD = {
    ("entities", '{"PER":["Ann","Bob"]}'): "PER: Ann\nPER: Bob",
    ("entities", '[["PER","Ann"]]'): "PER: Ann",
    ("entities", '{"type":"PER","text":"Ann"}'): "PER: Ann",
    ("entities", '[{"text":"Ann","label":"PER"}]'): None,
    ("entities", '["PER","Ann"]'): None,
    ("entities", "3"): None,
    ("entities", "null"): None,
    ("entities", "9" * 5000): None,
    ("entities", "[" * 100_000): None,
    ("entities", '[{"type":"PER","text":"\\ud800"}]'): None,
    ("relation", '[["Ann","lives in","巴黎"]]'): "Ann | lives in | 巴黎",
    ("relation", '["Ann","lives in","巴黎"]'): "Ann | lives in | 巴黎",
    ("relation", '[{"subject":"Ann"}]'): None,
    ("relation", "[3]"): None,
    ("relation", "3"): None,
}
"""Targets of a row in no form that templates are written for, and what is said of each in English; None for the target itself."""


@pytest.mark.parametrize(("family", "output"), ODD)
def test_a_row_whose_target_has_a_form_of_its_own_is_rendered(family: str, output: str) -> None:
    for template in FAMILIES[family].templates:
        expected = ODD[family, output] if "parsed" in template.source[1] else None
        if expected is not None and template.language == "zh":
            expected = expected.replace(": ", "：")
        assert write_answer(template, row(family=family, output=output)) == (output if expected is None else expected)


@pytest.mark.parametrize("output", ['[{"type":"PER","text":"Ann","start":7,"end":10}]', '{"PER":["Ann"]}', "3"])
def test_an_error_of_the_template_is_reported_whatever_form_the_row_has(project: Path, output: str) -> None:
    answer = "{% for e in output | parsed %}{{ e.tpye }}{% endfor %}"
    Path("data/templates/entities.yaml").write_text(
        f'kind: entities\ntemplates: [{{id: e-1, language: en, user: "{{{{ input }}}}", answer: "{answer}"}}]\n'
    )
    with pytest.raises(ConfigError, match=r"template e-1: .*Correct the template"):
        write_answer(read_templates()["entities"].templates[0], row(family="entities", output=output))


def test_a_template_cannot_reach_out_of_the_sandbox(project: Path) -> None:
    text = "{{ input.__class__.__mro__ }}"
    Path("data/templates/qa.yaml").write_text(f'kind: qa\ntemplates: [{{id: qa-1, language: en, user: "{text}"}}]\n')
    with pytest.raises(ConfigError, match="qa-1"):
        write_question(read_templates()["qa"].templates[0], row())


def test_an_over_long_row_is_cut_from_its_input_never_from_its_answer(tiny_gpt2: Path, project: Path) -> None:
    tokenizer = load_tokenizer(tiny_gpt2)
    long = row(input="The coach spoke. " * 100, output="A short answer.")
    (example,) = Renderer(tokenizer, 96).render([long], FAMILIES["qa"].choose)
    assert isinstance(example, Example)
    assert example.was_cut
    assert len(example) <= 96
    assert tokenizer.decode(example.answer_ids) == "A short answer." + tokenizer.eos_token
    assert "Who?" in example.prompt


@pytest.mark.parametrize("max_length_tokens", range(64, 90))
def test_a_character_of_several_tokens_is_cut_as_a_whole(
    max_length_tokens: int, tiny_gpt2: Path, project: Path
) -> None:
    tokenizer = load_tokenizer(tiny_gpt2)
    long = row(language="zh", instruction="", input="教练说了很多话" * 30, output="短。")
    (example,) = Renderer(tokenizer, max_length_tokens).render([long], FAMILIES["qa"].choose)
    assert isinstance(example, Example)
    assert max_length_tokens - 3 <= len(example) <= max_length_tokens
    assert "\ufffd" not in tokenizer.decode(example.prompt_ids)


def test_a_long_dialogue_loses_its_oldest_turns_first(tiny_gpt2: Path, project: Path) -> None:
    turns = [["user", f"Old question {i}?"] if i % 2 == 0 else ["assistant", f"Old answer {i}."] for i in range(20)]
    (example,) = Renderer(load_tokenizer(tiny_gpt2), 128).render(
        [row(family="dialogue", history=json.dumps(turns))], FAMILIES["dialogue"].choose
    )
    assert isinstance(example, Example)
    assert "Old question 0?" not in example.prompt
    assert "We met Ann." in example.prompt


def test_a_row_whose_answer_would_not_fit_is_dropped_and_counted(config: PipelineConfig) -> None:
    rows = toy_rows()
    rows[1]["output"] = "long " * 300
    write_part(rows)
    curate(config)
    run(config)
    assert read_json(paths.RENDER_REPORT)["dropped"] == {"answer_too_long": 1}


def test_no_row_trains_on_zero_tokens(config: PipelineConfig) -> None:
    write_part(toy_rows())
    curate(config)
    run(config)
    train = read_rendered("train")
    for start, end in zip(train.examples[:-1], train.examples[1:], strict=True):
        assert train.loss_mask[start:end].sum() >= 2
        assert train.loss_mask[start] == 0


def test_the_splits_hold_each_row_once_and_test_rows_stay_out_of_training(config: PipelineConfig) -> None:
    write_part(toy_rows())
    curate(config)
    run(config)
    counts = read_json(paths.RENDER_REPORT)["splits"]
    assert sum(split["examples"] for split in counts.values()) == 60
    tokens = {tuple(ids) for ids in pq.read_table(TEST)["prompt_ids"].to_pylist()}
    train = read_rendered("train")
    for number, (start, end) in enumerate(zip(train.examples[:-1], train.examples[1:], strict=True)):
        prompt = train.input_ids[start:end][train.loss_mask[start:end] == 0]
        assert tuple(prompt.tolist()) not in tokens, number


def test_rendering_twice_gives_equal_bytes(config: PipelineConfig) -> None:
    from tasks.runtime.files import folder_digest

    write_part(toy_rows())
    curate(config)
    run(config)
    first = folder_digest(paths.RENDERED)
    run(config)
    assert folder_digest(paths.RENDERED) == first


def test_the_used_templates_are_stored_with_the_rows(config: PipelineConfig) -> None:
    write_part(toy_rows())
    curate(config)
    run(config)
    templates = read_json(TEMPLATES)
    assert sorted(templates["families"]) == ["qa", "topic"]
    assert templates["families"]["topic"]["kind"] == "classification"
    assert templates["train_on"] == "every"
    assert "### Response:" in templates["chat_template"]
    assert templates["system"] == "its own turn"
    assert "You may call these tools" in templates["tools"]["en"]
    for answered in pq.read_table(TEST).to_pylist():
        family = templates["families"][answered["family"]]
        assert answered["template"] in [template["id"] for template in family["templates"]]
        assert answered["kind"] == family["kind"]


def test_the_system_turn_of_a_template_travels_with_the_model() -> None:
    templates = {template["id"]: template for template in FAMILIES["dialogue"].as_dict()["templates"]}
    assert "system" not in templates["dialogue-en-1"]
    assert templates["dialogue-en-2"]["system"] == "You are a helpful assistant."


def test_a_dialogue_is_trained_on_every_answer_or_the_last(config: PipelineConfig) -> None:
    turns = json.dumps([["user", "Hello"], ["assistant", "Hi!"]], separators=(",", ":"))
    write_part([{**r, "history": turns} for r in toy_rows()])
    curate(config)
    trained = {}
    for train_on in ("last", "every"):
        run(config.model_copy(update={"render": config.render.model_copy(update={"train_on": train_on})}))
        report = read_json(paths.RENDER_REPORT)["splits"]["train"]
        trained[train_on] = report["answer_tokens"] / report["examples"]
        assert read_json(TEMPLATES)["train_on"] == train_on
    assert trained["every"] > trained["last"] + 2


def test_a_single_class_is_reported_in_one_line(config: PipelineConfig) -> None:
    rows = [{**r, "output": "sport"} for r in toy_rows(40, 0)]
    write_part(rows)
    curate(config)
    with pytest.raises(DataError, match=r"family topic has only one class \('sport'"):
        run(config)


def test_a_family_without_templates_is_reported_with_the_file_to_write(config: PipelineConfig) -> None:
    write_part([{**r, "family": "poems"} for r in toy_rows()])
    curate(config)
    with pytest.raises(ConfigError, match=r"no templates for the family poems.*data/templates/poems.yaml"):
        run(config)


def test_an_empty_answer_is_dropped(tiny_gpt2: Path, project: Path) -> None:
    (result,) = Renderer(load_tokenizer(tiny_gpt2), 64).render([row(output="")], FAMILIES["qa"].choose)
    assert isinstance(result, Dropped)
