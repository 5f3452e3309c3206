"""The factory of a server's engines, by `serve.engine`.

run(config, engine_factory(config, start_engine))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.serve.versions.loaded import EngineFactory
from tasks.serve.versions.prepare import PreparedEngines, Start

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def engine_factory(config: PipelineConfig, embedded: Start) -> EngineFactory:
    """The embedded engine, or one outside, which imports torch for its tokenizer."""
    if config.serve.engine.kind == "embedded":
        return PreparedEngines(config, embedded)
    from tasks.serve.versions.outside import OutsideEngines

    return PreparedEngines(config, OutsideEngines(config).start)
