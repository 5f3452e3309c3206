"""Every recipe parses, and trains a step on a tiny model of the same architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, begin_round, toy_rows, write_params, write_part
from ruamel.yaml import YAML

from tasks import paths
from tasks.base.load import load_trained
from tasks.base.resolve import read_base
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.files import read_json
from tasks.finetune.stage import run as finetune
from tasks.render.stage import run as render

ARCHITECTURES = {
    "gpt2-instruct": "tiny_gpt2",
    "llama-7b-lora": "tiny_llama",
    "smollm2-news": "tiny_llama",
    "smollm2-rounds": "tiny_llama",
}


@pytest.mark.parametrize("recipe", sorted((REPOSITORY / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_trains_a_step(recipe: Path, project: Path, request: Any) -> None:
    values = json.loads(json.dumps(YAML(typ="safe").load(recipe.read_text(encoding="utf-8"))))
    values["base"]["model"] = str(request.getfixturevalue(ARCHITECTURES[recipe.stem]))
    values["finetune"]["max_steps"] = 1
    values["curate"] |= {"valid_share": 0.1, "test_share": 0.2}  # 60 rows, not thousands
    write_params(project, values)
    config = load_config()
    begin_round(config)
    write_part(toy_rows())
    for room in (curate, render, finetune):
        room(config)
    assert read_json(paths.TRAINING_REPORT)["steps"] == 1
    assert load_trained(paths.MODEL, read_base()).num_parameters() > 0
