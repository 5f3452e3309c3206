"""`transformers serve` against Strop's engine, for serve.py: the same weights, prompts and greatest length of an answer."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measuring import free_port
from serve_client import Client, Reply, ask_all
from serve_gateway import MODEL, GatewayProcess, Served
from serve_prompts import PROMPTS

AT_ONCE = 8
START_SECONDS = 180
BATCHING = ("--continuous-batching", "--cb-num-blocks", "64")
"""Its keys and values take most of the machine's memory without a limit; this one holds 16,384 tokens."""
LOG = "peer.log"
NEEDED = ("openai", "fastapi", "uvicorn")


def measure_peer(served: Served, work: Path, options: argparse.Namespace) -> None:
    """Prints tokens/s of both sides, alternately, and the share of equal tokens."""
    if lacking := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"\npeer: not measured, since `transformers serve` needs {', '.join(lacking)}: pip install {' '.join(lacking)}"
        )
        return
    what = f"{len(PROMPTS)} requests, {AT_ONCE} at once, at most {options.new_tokens} new tokens"
    print(f"\npeer: transformers {version('transformers')} serve, {what}", flush=True)
    tokenizer = _tokenizer(served.folder)
    with GatewayProcess(served, work) as gateway:
        own = [Client(gateway.port, MODEL, gateway.key) for _ in range(AT_ONCE)]
        ask_all(own, PROMPTS, options.new_tokens)
        for batching in (True, False):
            for threads in options.peer_threads:
                name = f"{'continuous batching' if batching else 'one by one'}, {threads} threads"
                with peer(served.folder, threads, batching, work) as port:
                    theirs = [Client(port, served.folder) for _ in range(AT_ONCE)]
                    try:
                        ask_all(theirs, PROMPTS[:AT_ONCE], 8)
                        compare(name, own, theirs, tokenizer, options.new_tokens, options.rounds if batching else 1)
                    except SystemExit as failure:
                        print(f"{name}: failed, {failure}; its log ends: {(work / LOG).read_text()[-800:]}", flush=True)


def compare(
    name: str,
    own: Sequence[Client],
    theirs: Sequence[Client],
    tokenizer: Any,
    new_tokens: int,
    rounds: int,
) -> None:
    speeds: dict[str, list[float]] = {"own": [], "theirs": []}
    replies: dict[str, list[Reply]] = {}
    for number in range(rounds):
        sides = [("own", own), ("theirs", theirs)]
        for side, clients in sides if number % 2 == 0 else sides[::-1]:
            replies[side], seconds = ask_all(clients, PROMPTS, new_tokens)
            speeds[side].append(sum(reply.tokens for reply in replies[side]) / seconds)
    ratios = [a / b for a, b in zip(speeds["own"], speeds["theirs"], strict=True)]
    pairs = list(zip(replies["own"], replies["theirs"], strict=True))
    counts = [equal_tokens(a.text, b.text, tokenizer) for a, b in pairs]
    equal, count = sum(each[0] for each in counts), sum(each[1] for each in counts)
    print(
        f"{name}: strop (1 thread) {ranged(speeds['own'])} tokens/s, peer {ranged(speeds['theirs'])}: "
        f"{ranged(ratios)} times; "
        f"{equal / max(count, 1):.1%} of {count} tokens equal, {sum(a == b for a, b in counts)} of {len(pairs)} answers",
        flush=True,
    )
    if any(a.prompt_tokens != b.prompt_tokens for a, b in pairs):
        print("  the sides rendered a prompt differently: the tokens cannot be compared", flush=True)


def ranged(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def equal_tokens(own: str, theirs: str, tokenizer: Any) -> tuple[int, int]:
    """The tokens before the first difference, and the tokens of the longer answer."""
    first, second = (tokenizer.encode(text.strip(), add_special_tokens=False) for text in (own, theirs))
    pairs = list(zip(first, second, strict=False))
    equal = next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return equal, max(len(first), len(second))


def _tokenizer(folder: str) -> Any:
    from tasks.base.load import load_tokenizer

    return load_tokenizer(Path(folder))


@contextmanager
def peer(folder: str, threads: int, batching: bool, work: Path) -> Iterator[int]:
    """A running `transformers serve`; its port."""
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", folder, "--device", "cpu"]
    command += ["--dtype", "float32", "--port", str(port), *(BATCHING if batching else ())]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    log = work / LOG
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, cwd=work, stdout=output, stderr=output)
        try:
            _wait_for(port, process, log)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                json.load(response)
                return
        except (OSError, ValueError, urllib.error.URLError):
            time.sleep(0.2)
    raise SystemExit(f"`transformers serve` did not start: {log.read_text()[-500:]}")
