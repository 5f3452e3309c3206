"""A training on toy rows, and the digest of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.project import begin_round, params, write_params
from support.toy_rows import toy_rows, write_part
from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.render.stage import run as render


def prepare(project: Path, base: Path, **settings: Any) -> PipelineConfig:
    write_params(project, params(base, [], finetune={"precision": "fp32", **settings}))
    config = load_config()
    if not paths.RENDERED.exists():
        begin_round(config)
        write_part(toy_rows())
        curate(config)
        render(config)
    return config


def trained_digest() -> str:
    return weights_digest(paths.MODEL)
