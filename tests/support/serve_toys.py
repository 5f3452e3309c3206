"""The process of a gateway with toy engines, in the working directory: its last line is JSON about itself."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

HEAVY = ("torch", "transformers", "mlflow", "dvc", "prefect", "pandas", "datasets", "peft")


def main() -> None:
    from support.toyledger import ToyFactory
    from tasks.config import parse_config
    from tasks.serve.stage import run

    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(message)s")
    sections = ("curate", "render", "finetune", "evaluate", "gate", "promote")
    document = {name: {} for name in sections} | {"serve": {"port": 0, "limits": {"drain_seconds": 10}}}
    document |= {
        "base": {"model": "gpt2"},
        "ingest": {"sources": []},
        "validate": {},
        "register": {"model_name": "tiny"},
    }
    factory = ToyFactory()
    load = factory.load

    async def load_slow(entry):  # type: ignore[no-untyped-def]
        engine = await load(entry)
        await asyncio.sleep(0)
        engine.pause = 0.05
        return engine

    factory.load = load_slow  # type: ignore[method-assign]
    run(parse_config(document), factory)
    loaded = [name for name in HEAVY if name in sys.modules]
    print(json.dumps({"heavy": loaded, "open": factory.open}), flush=True)


main()
