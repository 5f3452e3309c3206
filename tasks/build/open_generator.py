"""The choice of the generator: an endpoint, or a model on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.build.generator import Generator

if TYPE_CHECKING:
    from tasks.build.settings import Generator as GeneratorSettings
    from tasks.config import PipelineConfig


def open_generator(settings: GeneratorSettings, config: PipelineConfig, seed: int) -> Generator:
    """The generator of these settings. Nothing is loaded or requested before its first use."""
    if settings.base_url is not None:
        from tasks.build.endpoint import Endpoint

        return Endpoint(settings)
    from tasks.build.local import LocalModel

    return LocalModel(settings, config, seed)
