"""Every recipe parses, and trains a step on a tiny model of the same architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.project import REPOSITORY, begin_round, write_params
from support.rawtext import text_rows
from support.toy_rows import toy_rows, write_part

from tasks import paths
from tasks.base.load import load_trained
from tasks.base.pin import read_base
from tasks.config import load_config
from tasks.curate.stage import run as curate
from tasks.finetune.stage import run as finetune
from tasks.records.row import row_id_of
from tasks.render.stage import run as render
from tasks.runtime.files import read_json


def rows_with_pairs() -> list[dict[str, Any]]:
    """Toy rows; the questions have a worse answer, too."""
    rows = toy_rows()
    for row in rows:
        if row["family"] == "qa":
            row["rejected"] = "No."
            row["row_id"] = row_id_of(row)
    return rows


ARCHITECTURES = {
    "bert-classify": "tiny_bert",
    "continued-pretrain": "tiny_llama",
    "gpt2-instruct": "tiny_gpt2",
    "instructgpt": "tiny_llama",
    "llama-7b-lora": "tiny_llama",
    "preferences-dpo": "tiny_llama",
    "smollm2-loop": "tiny_llama",
    "smollm2-news": "tiny_llama",
    "smollm2-rounds": "tiny_llama",
}


@pytest.mark.parametrize("recipe", sorted((REPOSITORY / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_trains_a_step(recipe: Path, project: Path, request: Any) -> None:
    values = json.loads(json.dumps(YAML(typ="safe").load(recipe.read_text(encoding="utf-8"))))
    if values["base"]["model"] == "scratch":
        values["base"]["scratch"] |= {"size": "nano", "vocabulary": 400}
    else:
        values["base"]["model"] = str(request.getfixturevalue(ARCHITECTURES[recipe.stem]))
    for training in (values["finetune"], *values["finetune"].get("before", ())):
        training["max_steps"] = 1
        training.get("grpo", {})["max_answer_tokens"] = 8
    values["curate"] |= {"valid_share": 0.1, "test_share": 0.2}  # 60 rows, not thousands
    write_params(project, values)
    config = load_config()
    write_part(rows_with_pairs())
    write_part(text_rows(40), "000002-t1.parquet")
    begin_round(config)
    for room in (curate, render, finetune):
        room(config)
    assert read_json(paths.TRAINING_REPORT)["steps"] == 1
    assert load_trained(paths.MODEL, read_base()).num_parameters() > 0
