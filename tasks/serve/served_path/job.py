"""A check in a process of its own, with torch, DVC and MLflow: the server of requests has none of them.

    python -m tasks.serve.served_path.job FILE

FILE has the job as JSON; the process replaces it by `{"error": ...}` if the check cannot be carried out, and writes its result to
the file of the check.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.errors import StropError
from tasks.runtime.files import read_object, write_json
from tasks.serve.engine.engine_settings import EngineSettings
from tasks.serve.engine.remote_version import RemoteVersion
from tasks.serve.served_path.comparison import Policy
from tasks.serve.served_path.record import EngineIdentity, ServedCheck, write_check

logger = logging.getLogger("tasks.serve.served_path.job")  # `__name__` is "__main__" here


@dataclass(frozen=True)
class Job:
    """
    Args:
        commit: of the version.
        base: the base in its receipt (`BaseRecord`).
        base_url: of the server in which the version is loaded.
        served_name: the name of the version there.
        base_name: the name of the base there.
        result: the file of the check.
    """

    version: RemoteVersion
    commit: str
    base: Mapping[str, Any]
    identity: EngineIdentity
    policy: Policy
    base_url: str
    served_name: str
    base_name: str
    api_key_env: str | None
    stall_seconds: float
    result: Path

    def as_json(self) -> dict[str, Any]:
        version = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self.version).items()}
        return {**asdict(self), "version": version, "result": str(self.result)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Job:
        version = dict(document["version"])
        version |= {name: Path(version[name]) for name in ("folder", "base_folder")}
        return cls(
            **{
                **document,
                "version": RemoteVersion(**version),
                "identity": EngineIdentity(**document["identity"]),
                "policy": Policy(**document["policy"]),
                "result": Path(document["result"]),
            }
        )


def run(job: Job) -> ServedCheck:
    """Carries out the check and writes its result.

    Raises:
        StropError: it cannot be carried out.
    """
    from tasks.base.load import load_tokenizer
    from tasks.base.pin import BaseRecord
    from tasks.serve.served_path.reference import reference_logprobs
    from tasks.serve.served_path.rows import rows_of_version

    rows = rows_of_version(job.commit)
    tokenizer = load_tokenizer(job.version.folder)
    base = BaseRecord(**job.base)

    def reference(prompted: Sequence[Any]) -> list[Any]:
        return reference_logprobs(job.version.folder, base, job.version.precision, prompted)

    check = asyncio.run(_check(job, rows, tokenizer, reference))
    write_check(job.result, check)
    return check


async def _check(job: Job, rows: Sequence[Any], tokenizer: Any, reference: Any) -> ServedCheck:
    from tasks.serve.engine.remote import RemoteEngine, facts_of
    from tasks.serve.engine.remote_server import DTYPES, RemoteServer
    from tasks.serve.engine.remote_version import decoding_of
    from tasks.serve.served_path.check import check_served_path

    settings = EngineSettings(
        kind="url",
        base_url=job.base_url,
        base_model=job.base_name,
        api_key_env=job.api_key_env,
        stall_seconds=job.stall_seconds,
    )
    version, decoding = job.version, decoding_of(job.version, tokenizer)
    server = await RemoteServer.started(settings, version.model_folder, DTYPES[version.precision])
    facts = facts_of(server, version, decoding)
    limit = version.max_new_tokens
    engine = RemoteEngine(server, job.served_name, tokenizer, decoding, facts, limit, server.close)

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    try:
        return await check_served_path(engine, version, job.identity, rows, job.policy, reference, tokenize)
    finally:
        await engine.close()


def publish(check: ServedCheck) -> None:
    """Records it with the version in the registry. If the registry refuses, it is a warning: the file of the check is here."""
    from tasks.config import load_config
    from tasks.model_store.served_checks import record_served
    from tasks.tracking.registry import open_registry

    try:
        registry = open_registry(load_config())
        record_served(registry, registry.version(check.version), check.engine_digest, check.as_json())
    except StropError as error:
        logger.warning(f"serve: the served-path check of v{check.version} is not in the registry: {error}")


def main() -> int:
    from tasks.runtime.logs.setup import set_up_logs
    from tasks.runtime.loopback import exempt_loopback_from_proxies
    from tasks.runtime.parent_watchdog import end_with_parent
    from tasks.runtime.terminal_text import prepare_streams

    prepare_streams()
    set_up_logs("serve")
    exempt_loopback_from_proxies()
    end_with_parent(5.0)
    path = Path(sys.argv[1])
    try:
        publish(run(Job.from_json(read_object(path))))
    except StropError as error:
        write_json(path, {"error": str(error)})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
