"""The gateway and the engine of `strop serve`. Run: .venv/bin/python benchmarks/serve.py [--parts overhead batch peer soak]

    --project FOLDER  the champion of this project is served; default: .demo (`make demo` makes it)
    --model FOLDER    serve this model instead: full weights with a tokenizer
    --requests N      of a small random model, each to the engine alone and through the gateway; default: 1000. Of the served
                      model a tenth
    --new-tokens N    maximum length of an answer in `batch` and `peer`; default: 48
    --rounds N        of `batch` and `peer`; default: 3. A peer without batching is measured once
    --peer-threads N ...  torch threads of the peer, each tried; default: 1, and all cores
    --soak MINUTES    default: 10

    overhead   the same requests alternately to the engine alone and through HTTP with recording on, to one worker: difference of
               the median and of the 99th percentile, of whole answers and of the first piece of a stream. A small random model
               shows what the gateway adds; the served model also has a processor that is busy, and answers that vary by more
    batch      tokens/s of 16 requests, 8 at once, relative to one after another
    peer       tokens/s of the same against `transformers serve`, with continuous batching and without, on the same fp32 weights,
               into which an adapter is merged; share of equal greedy tokens
    soak       memory of gateway, worker and recorder (serve_soak.py): 8 clients, whole answers and streams, some of them cancelled

Requests are greedy chats in English and Chinese, over connections that are kept open.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring import REPOSITORY, describe_machine, missing, quieten, toy_tools

quieten()
sys.path.insert(0, str(REPOSITORY))

from serve_client import Client, Reply, ask_all  # noqa: E402
from serve_gateway import MODEL, GatewayProcess, Served  # noqa: E402
from serve_model import champion_of, full_weights, merged_model  # noqa: E402
from serve_peer import measure_peer, ranged  # noqa: E402
from serve_prompts import PROMPTS  # noqa: E402
from serve_soak import soak  # noqa: E402

AT_ONCE = 8
SHORT = 4
"""Tokens of an answer in `overhead`."""
PARTS = ("overhead", "batch", "peer", "soak")


def main() -> None:
    options = parse()
    if options.model is not None and not (options.model / "config.json").is_file():
        missing(
            f"{options.model} has no model", "name a folder with full weights and a tokenizer, or leave --model out"
        )
    if options.model is None and not (options.project / "params.yaml").is_file():
        missing(f"{options.project} is no project", "make demo, or name a folder with --project or --model")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        spool = str(work / "spool")
        served = full_weights(options.model, spool) if options.model else champion_of(options.project, spool)
        print(f"{describe_machine()}; the engine uses one thread", flush=True)
        if "overhead" in options.parts:
            tiny = toy_tools().make_tiny_llama(work / "tiny")
            measure_overhead("small random model", full_weights(tiny, spool), work, options.requests)
        if {"overhead", "batch", "soak"} & set(options.parts):
            with GatewayProcess(served, work) as gateway:
                if "overhead" in options.parts:
                    compare("served model", gateway, options.requests // 10)
                if "batch" in options.parts:
                    measure_batch(gateway, options.new_tokens, options.rounds)
                if "soak" in options.parts:
                    soak(gateway, options.soak, spool)
        if "peer" in options.parts:
            measure_peer(merged_model(served, work), work, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The gateway and the engine of `strop serve`.")
    parser.add_argument("--project", type=Path, default=Path(".demo"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--soak", type=float, default=10.0, metavar="MINUTES")
    return parser.parse_args()


def measure_overhead(name: str, served: Served, work: Path, requests: int) -> None:
    with GatewayProcess(served, work) as gateway:
        compare(name, gateway, requests)


def compare(name: str, gateway: GatewayProcess, requests: int) -> None:
    """Prints what the gateway adds to the engine."""
    client = Client(gateway.port, MODEL, gateway.key)
    print(f"\n{name}, {requests} requests each, answers of {SHORT} tokens; ms: median and 99th percentile")
    for kind, of_direct, ask in (
        ("whole answer", 1, lambda text: client.ask(text, SHORT).seconds),
        ("first piece of a stream", 0, lambda text: client.stream(text, SHORT).first),
    ):
        direct, through = alternate(lambda text, of=of_direct: gateway.direct(text, SHORT)[of], ask, requests)
        added = [theirs - own for own, theirs in zip(spread(direct), spread(through), strict=True)]
        paired = statistics.median(http - alone for alone, http in zip(direct, through, strict=True)) * 1000
        print(
            f"{kind:<24} engine {in_columns(spread(direct))}   gateway {in_columns(spread(through))}   "
            f"added {in_columns(added)}   median of pairs {paired:+.2f}",
            flush=True,
        )
    client.close()


def alternate(
    direct: Callable[[str], float], through: Callable[[str], float], requests: int
) -> tuple[list[float], list[float]]:
    """The seconds of both on the same texts; the first of each pair changes."""
    alone, http = [], []
    for number in range(-5, requests):
        text = PROMPTS[number % len(PROMPTS)]
        pair = [(alone, direct), (http, through)]
        for seconds, ask in pair if number % 2 else pair[::-1]:
            elapsed = ask(text)
            if number >= 0:
                seconds.append(elapsed)
    return alone, http


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile in ms."""
    ordered = sorted(seconds)
    return statistics.median(ordered) * 1000, ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000


def in_columns(values: Sequence[float]) -> str:
    return " ".join(f"{value:8.2f}" for value in values)


def measure_batch(gateway: GatewayProcess, new_tokens: int, rounds: int) -> None:
    """All prompts by 8 clients at once and by one, alternately."""
    clients = [Client(gateway.port, MODEL, gateway.key) for _ in range(AT_ONCE)]
    ask_all(clients, PROMPTS, new_tokens)  # the first batch of each size takes longer
    speeds: dict[str, list[float]] = {"one": [], "all": []}
    answers: dict[str, list[Reply]] = {}
    for _ in range(rounds):
        for name, used in (("one", clients[:1]), ("all", clients)):
            answers[name], seconds = ask_all(used, PROMPTS, new_tokens)
            speeds[name].append(sum(reply.tokens for reply in answers[name]) / seconds)
    ratios = [all_ / one for one, all_ in zip(speeds["one"], speeds["all"], strict=True)]
    different = sum(a.text != b.text for a, b in zip(answers["one"], answers["all"], strict=True))
    print(
        f"\nbatch: {AT_ONCE} at once {ranged(speeds['all'])} tokens/s, one after another {ranged(speeds['one'])}: "
        f"{ranged(ratios)} times; {sum(reply.tokens for reply in answers['all'])} tokens of {len(PROMPTS)} answers, "
        f"of which {different} differ",
        flush=True,
    )


if __name__ == "__main__":
    main()
