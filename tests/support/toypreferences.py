"""Toy rows with a better and a worse answer, and rated ones; and a project in which they are rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part
from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.records.row import row_id_of
from tasks.render.stage import run as render


def preference_rows(pairs: int = 40, judged: int = 24) -> list[dict[str, Any]]:
    """Questions about cities, half of them Chinese; the better answers name the city, the worse ones refuse to."""
    rows = toy_rows(topics=0, questions=pairs + judged)
    for number, row in enumerate(rows):
        worse = "我不想说。" if row["language"] == "zh" else "I would rather not say."
        if number < pairs:
            row["rejected"] = worse
        else:
            is_good = number % 4 < 2
            row |= {"desirable": "true" if is_good else "false", "output": row["output"] if is_good else worse}
        row["row_id"] = row_id_of(row)
    return rows


def curves(folder: Path = paths.MODEL) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]


def prepare(project: Path, base: Path, **settings: Any) -> PipelineConfig:
    """Renders the rows, and returns the settings of a training in fp32."""
    write_params(project, params(base, [], finetune={"precision": "fp32", **settings}))
    config = load_config()
    if not paths.RENDERED.exists():
        begin_round(config)
        write_part(preference_rows())
        curate(config)
        render(config)
    return config
