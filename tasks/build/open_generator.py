"""The choice of what writes: an endpoint, or a model on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.build.generator import Generator

if TYPE_CHECKING:
    from tasks.build.settings import Generator as GeneratorSettings
    from tasks.config import PipelineConfig


def open_generator(settings: GeneratorSettings, config: PipelineConfig, seed: int) -> Generator:
    """The generator that the settings name. Nothing is loaded or asked before its first use."""
    if settings.base_url is not None:
        from tasks.build.endpoint import Endpoint

        return Endpoint(settings)
    from tasks.build.local import LocalModel

    return LocalModel(settings, config, seed)
