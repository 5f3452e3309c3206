"""Versions behind an engine outside: each is loaded, and enters service only if its served-path check has passed.

engines = CheckedEngines(config)
engine = await engines.start(version, commit, receipt)     # a version of the ledger (remote_version_of)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tasks.errors import StropError
from tasks.runtime.files import read_object, write_json
from tasks.serve.engine.remote import RemoteEngine
from tasks.serve.engine.remote_engines import RemoteEngines
from tasks.serve.engine.remote_version import RemoteVersion
from tasks.serve.own_code import own_command, own_environment
from tasks.serve.served_path.comparison import Policy
from tasks.serve.served_path.job import Job
from tasks.serve.served_path.record import ServedCheck, check_path, identity_of, read_check

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

logger = logging.getLogger(__name__)


class ServedPathRefused(StropError):
    """A version does not enter service behind this engine: its check did not pass, or could not be carried out."""


class CheckedEngines:
    def __init__(self, config: PipelineConfig) -> None:
        self.settings, self.policy = config.serve.engine, policy_of(config)
        self.engines = RemoteEngines(self.settings)

    async def start(self, version: RemoteVersion, commit: str, receipt: Mapping[str, Any]) -> RemoteEngine:
        """The engine of a version. If this is cancelled, what it began is ended.

        Args:
            commit: of the version.

        Raises:
            StropError: it cannot be loaded, or its check did not pass.
        """
        engine = await self.engines.load(version)
        try:
            await self._require_checked(engine, version, commit, receipt)
        except BaseException:
            await engine.close()
            raise
        return engine

    async def close(self) -> None:
        await self.engines.close()

    async def _require_checked(
        self, engine: RemoteEngine, version: RemoteVersion, commit: str, receipt: Mapping[str, Any]
    ) -> None:
        identity = identity_of(engine.facts.engine, engine.facts.precision, self.settings)
        result = await asyncio.to_thread(check_path, version, identity, self.policy)
        check = read_check(result)
        if check is None:
            logger.info(f"serve: {version.name} is checked on {identity.engine} before it enters service")
            server = engine.server
            job = Job(
                version,
                commit,
                {name: value for name, value in receipt["base"].items() if name != "digest"},
                identity,
                self.policy,
                server.client.base_url,
                engine.model,
                server.base.name,
                self.settings.api_key_env,
                self.settings.stall_seconds,
                result,
            )
            check = await self._carry_out(job)
        if not check.passed:
            fix = f"Serve it by the embedded engine, or correct the server; then remove {result} to check it again"
            raise ServedPathRefused(f"does not enter service: {check.reason}", where=version.name, fix=fix)
        logger.info(f"serve: {version.name} passed the served-path check: {check.summary}")

    async def _carry_out(self, job: Job) -> ServedCheck:
        """Runs the check in a process of its own."""
        with TemporaryDirectory(prefix="strop-served-") as folder:
            path = Path(folder) / "job.json"
            write_json(path, job.as_json())
            process = await asyncio.create_subprocess_exec(
                *own_command("tasks.serve.served_path.job", str(path)), env=own_environment()
            )
            try:
                code = await process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise
            document = read_object(path)
        check = read_check(job.result)
        if code == 0 and check is not None:
            return check
        reason = document.get("error") or f"its process ended with exit code {code}; the log has more"
        raise ServedPathRefused(f"the served-path check cannot be carried out: {reason}", where=job.version.name)


def remote_version_of(config: PipelineConfig, number: int, folder: Path, receipt: Mapping[str, Any]) -> RemoteVersion:
    """A version of the ledger, for an engine outside.

    Args:
        folder: its files (`weights_folder`).

    Raises:
        BaseModelError: the base of an adapter is missing, or has changed.
    """
    from tasks.base.convert import base_folder
    from tasks.base.load import ADAPTER
    from tasks.base.pin import base_of

    evaluate = (receipt.get("params") or {}).get("evaluate") or {}
    return RemoteVersion(
        config.register_.model_name,
        number,
        receipt["weights"],
        folder,
        base_folder(base_of(receipt["base"])) if (folder / ADAPTER).is_file() else folder,
        (receipt.get("metrics") or {}).get("precision", "fp32"),
        int(evaluate.get("max_new_tokens", config.evaluate.max_new_tokens)),
    )


def policy_of(config: PipelineConfig) -> Policy:
    """The gate's rule of "not worse", by the project's settings."""
    gate, check = config.gate, config.serve.engine.check
    margins = {name: policy.margin for name, policy in gate.families.items() if policy.margin is not None}
    return Policy(
        gate.margin,
        margins,
        gate.confidence,
        gate.bootstrap_samples,
        gate.seed,
        gate.min_rows,
        check.least_agreement,
        check.most_rows,
    )
