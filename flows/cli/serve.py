"""serve: the HTTP server of versions."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.common import as_text, enter_project

Port = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="The port; 0: a free one. Default: serve.port, 8000.")
]
Host = Annotated[
    str | None, typer.Option(callback=as_text, help="The address to listen on. Default: serve.host, 127.0.0.1.")
]


def serve(port: Port = None, host: Host = None) -> None:
    """Serve the champion over HTTP, with OpenAI's API, until Ctrl-C.

    A promotion or rollback takes effect without a restart. The API key is in .strop/serve/key; see docs/serving.md."""
    config = enter_project()
    from flows.canary_process import canary_process
    from tasks.serve.stage import run
    from tasks.serve.versions.factory import engine_factory
    from tasks.serve.versions.start_engine import start_engine

    changes = {name: value for name, value in (("port", port), ("host", host)) if value is not None}
    run(config, engine_factory(config, start_engine), config.serve.model_copy(update=changes), [canary_process()])
