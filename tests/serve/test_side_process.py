"""A process beside the gateway, such as the controller of canaries: it starts again after a kill, and ends with the gateway."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from support.toyledger import make_ledger

from flows import canary_process
from tasks.runtime.files import write_json
from tasks.serve.own_code import own_command
from tasks.serve.side_process import SideProcess


def test_the_controller_starts_again_after_a_kill_and_ends_with_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each step looks for a canary in a ledger that is broken, which it reports."""
    monkeypatch.chdir(tmp_path)
    make_ledger()
    Path(".git/refs/strop/ledger/tiny").write_text("0123456789012345678901234567890123456789\n")
    document = {name: {} for name in ("curate", "render", "finetune", "evaluate", "gate", "promote", "validate")}
    document |= {"base": {"model": "gpt2"}, "ingest": {"sources": []}, "register": {"model_name": "tiny"}}
    write_json(Path("params.yaml"), document)
    made = canary_process.canary_process()
    beside = SideProcess(made.name, made.command, restart_seconds=(0.01,), close_seconds=made.close_seconds)

    async def scenario() -> None:
        reported = ""
        async with beside, asyncio.timeout(60):
            while "canary: " not in reported:
                await asyncio.sleep(0.02)
                reported += capfd.readouterr().err
            first = beside.process
            assert first is not None
            os.kill(first.pid, signal.SIGTERM)
            os.kill(first.pid, signal.SIGINT)
            await asyncio.sleep(0.05)
            assert first.returncode is None, "a terminal's Ctrl-C does not end it before the gateway"
            os.kill(first.pid, signal.SIGKILL)
            while beside.process is first:
                await asyncio.sleep(0.01)
        assert beside.process is not None
        assert (beside.restarts, beside.process.returncode) == (1, 0)

    asyncio.run(scenario())
    assert own_command("flows.canary_process") == made.command
