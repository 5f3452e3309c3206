"""A training of a classifier on toy rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part
from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.render.stage import run as render


def prepare(project: Path, base: Path, **settings: Any) -> PipelineConfig:
    finetune = {"objective": "classify", "precision": "fp32", "micro_batch_rows": 4, **settings}
    write_params(project, params(base, [], finetune=finetune))
    config = load_config()
    if not paths.RENDERED.exists():
        begin_round(config)
        write_part(toy_rows(questions=0))
        curate(config)
        render(config)
    return config
