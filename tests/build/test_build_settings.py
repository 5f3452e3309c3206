"""A recipe has the settings that its kind needs, and no setting of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.project import params, write_params

from tasks.config import load_config
from tasks.errors import ConfigError

MODEL = {"model": "toy", "base_url": "http://127.0.0.1:1/v1"}
GOOD: list[dict[str, Any]] = [
    {"name": "faq", "kind": "records", "records": "faq.csv", "templates": [{"instruction": "{{ q }}", "output": "{{ a }}"}]},
    {"name": "more", "kind": "self_instruct", "seeds": "seeds.jsonl", "generator": MODEL, "language": "zh"},
    {"name": "said", "kind": "paraphrase", "family": "qa", "generator": {"model": "champion"}, "copies": 2},
    {"name": "back", "kind": "back_translation", "family": "qa", "through": "de", "translator": "mine:translate"},
]  # fmt: skip


def mistakes(root: Path, recipe: dict[str, Any]) -> str:
    write_params(root, {**params("x", []), "build": {"recipes": [recipe]}})
    with pytest.raises(ConfigError) as caught:
        load_config(root / "params.yaml")
    return str(caught.value)


def test_each_kind_parses(tmp_path: Path) -> None:
    write_params(tmp_path, {**params("x", []), "build": {"recipes": GOOD}})
    build = load_config(tmp_path / "params.yaml").build
    assert [recipe.kind for recipe in build.recipes] == ["records", "self_instruct", "paraphrase", "back_translation"]


def test_a_project_without_recipes_needs_no_section(tmp_path: Path) -> None:
    write_params(tmp_path, params("x", []))
    assert load_config(tmp_path / "params.yaml").build.recipes == ()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({**GOOD[0], "templates": []}, "kind `records` needs templates"),
        ({**GOOD[0], "seeds": "x"}, "kind `records` has no seeds"),
        ({"name": "x", "kind": "self_instruct", "seeds": "x"}, "needs generator"),
        ({**GOOD[2], "generator": {"model": "m", "api_key_env": "K"}}, "api_key_env belongs to base_url"),
        ({**GOOD[2], "generator": {"model": "m", "base_url": "localhost:1"}}, "base_url begins with http"),
        ({**GOOD[3], "generator": MODEL}, "needs one of generator and translator"),
        ({**GOOD[0], "sede": 1}, "did you mean `seed"),
        ({**GOOD[0], "name": "../up"}, "name"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(tmp_path: Path, recipe: dict[str, Any], message: str) -> None:
    assert message in mistakes(tmp_path, recipe)


def test_two_recipes_with_one_name_are_reported(tmp_path: Path) -> None:
    write_params(tmp_path, {**params("x", []), "build": {"recipes": [GOOD[0], GOOD[0]]}})
    with pytest.raises(ConfigError, match="two recipes are named faq"):
        load_config(tmp_path / "params.yaml")
