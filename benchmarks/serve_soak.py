"""A long load of serve.py: the memory of gateway, worker and recorder over time."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from serve_client import Client
from serve_gateway import MODEL, GatewayProcess
from serve_prompts import PROMPTS

CLIENTS = 8
LONGEST_ANSWER = 32
WARM_MINUTES = 2.0
"""Growth is counted from here on."""
SAMPLE_SECONDS = 2.0
KINDS = ("whole", "stream", "cancelled")


def soak(gateway: GatewayProcess, minutes: float, spool: str) -> None:
    """Prints the resident memory of each process at intervals, and its growth."""
    end, done = time.monotonic() + minutes * 60, Counter[str]()
    failures: list[BaseException] = []
    clients = [
        threading.Thread(target=_ask, args=(gateway, number, end, done, failures), daemon=True)
        for number in range(CLIENTS)
    ]
    for thread in clients:
        thread.start()
    samples = _sample(gateway.pids, end)
    for thread in clients:
        thread.join()
    if failures:
        raise SystemExit(f"a client of the soak failed: {failures[0]!r}")
    print(f"\nsoak: {minutes:g} minutes, {CLIENTS} clients, " + ", ".join(f"{done[kind]} {kind}" for kind in KINDS))
    warm = min(WARM_MINUTES, minutes / 2) * 60
    for name in gateway.pids:
        values = [(moment, memory[name] / 1e6) for moment, memory in samples]
        minute = {int(moment // 60): value for moment, value in values}
        settled = [value for moment, value in values if moment >= warm]
        print(
            f"{name:<9} MB by minute {' '.join(f'{value:.1f}' for value in minute.values())}; "
            f"from minute {warm / 60:g} on {settled[-1] - settled[0]:+.1f}, at most {max(settled) - settled[0]:+.1f}"
        )
    written = sum(path.stat().st_size for path in Path(spool).rglob("*") if path.is_file())
    print(f"records of {written / 1e6:.1f} MB", flush=True)


def _sample(pids: dict[str, int], end: float) -> list[tuple[float, dict[str, int]]]:
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    began, samples = time.monotonic(), []
    while time.monotonic() < end:
        memory = {name: process.memory_info().rss for name, process in processes.items()}
        samples.append((time.monotonic() - began, memory))
        time.sleep(SAMPLE_SECONDS)
    return samples


def _ask(gateway: GatewayProcess, seed: int, end: float, done: Counter[str], failures: list[BaseException]) -> None:
    choose = random.Random(seed)
    client = Client(gateway.port, MODEL, gateway.key)
    try:
        while time.monotonic() < end:
            kind, text = choose.choice(KINDS), choose.choice(PROMPTS)
            tokens = choose.randint(1, LONGEST_ANSWER)
            if kind == "whole":
                client.ask(text, tokens)
            else:
                client.stream(text, tokens, pieces=choose.randint(1, 6) if kind == "cancelled" else None)
            done[kind] += 1
    except BaseException as failure:  # reported by the main thread  # noqa: BLE001
        failures.append(failure)
    finally:
        client.close()
