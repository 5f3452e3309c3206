"""Strop's training step against TRL's, on the same tokens. Run: .venv/bin/python benchmarks/finetune.py [--pairs 3] [--steps 12]

    --rows FOLDER   the folder with llamafactory/alpaca_en_demo.json and banking77/train.csv (default: STROP_SHARED_DATA, or
                    ../shared/data)
    --base MODEL    default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)
    --against SIDE  the configuration of TRL to compare with, if its best is known; only its best number of threads is searched for
    --busy N        keep N cores busy for the whole run, as on a machine with other work
    --llamafactory FOLDER   compare with LLaMA-Factory, too: a virtual environment that contains it (see finetune_llamafactory.py)
    --full          train all weights, instead of LoRA r=16 on all linear layers
    --gpu           bf16 on the GPU, flash attention if it is installed, and a step of llama-7b-lora; default: the CPU only

The rows are rendered once, and one packed row per step is drawn from them. Every contender sees the same examples once, so that
the final losses can be compared. Each trains in a process of its own, on the same token ids, with AdamW, a constant learning rate
and about 1,024 tokens per step:

    strop       the room `finetune`
    strop-exact ... with `deterministic: true`, with --gpu only: the cost of reproducible bits
    trl         SFTTrainer with its defaults
    trl-bf16    ... with bf16
    trl-packed-fp32  ... with packing: its best on a processor without native bf16
    trl-packed  ... with bf16 and packing
    llama-f     LLaMA-Factory with bf16 and packing, with --llamafactory only

Strop chooses its number of threads itself. TRL uses Strop's number, or torch's default; short runs find its fastest number of
threads and its fastest configuration. Then this configuration and Strop run alternately, in pairs. Printed: tokens per second
(median over the steps without the first), peak memory, the final loss on the same held-out rows, and Strop's FLOP/s as a share of
those of a matrix product.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

from measuring import (
    BASE,
    REPOSITORY,
    busy_cores,
    data_folder,
    describe_machine,
    missing,
    quieten,
    require_base,
    require_rows,
    toy_tools,
)

quieten()

from finetune_llamafactory import write_rows  # noqa: E402
from finetune_sides import FULL_RATE, LORA_RATE, SIDES, TRL, held_out_loss, keep_packed_rows, train  # noqa: E402

LLAMA_FACTORY = "llama-f"
PROBE_STEPS = 3
ROWS = ("llamafactory/alpaca_en_demo.json", "banking77/train.csv")


def main() -> None:
    options = parse()
    if options.side:
        result = train(options.side, options.steps, options.gpu, options.full, options.threads)
        print("RESULT " + json.dumps(result), flush=True)
        return
    require_rows(options.rows, *ROWS)
    require_base(options.base)
    if options.llamafactory and not (options.llamafactory / "bin/python").exists():
        missing(
            f"{options.llamafactory} is not a virtual environment",
            "benchmarks/finetune_llamafactory.py says how to make it",
        )
    with tempfile.TemporaryDirectory() as folder, busy_cores(options.busy):
        root = Path(folder) / "project"
        prepare(root, options)
        print(f"{describe_machine()}, {options.busy} cores kept busy", flush=True)
        best = fastest(root, options)
        results: dict[str, list[dict[str, float]]] = {"strop": [], best: []}
        if options.llamafactory:
            results[LLAMA_FACTORY] = []
        if options.gpu:
            results["strop-exact"] = []
        for number in range(options.pairs):
            for side in results if number % 2 == 0 else reversed(results):
                results[side].append(run(side, options.steps, root, options))
        report({side: results[side] for side in ("strop", best)}, best)
        if options.llamafactory:
            report({side: results[side] for side in ("strop", LLAMA_FACTORY)}, LLAMA_FACTORY)
        if options.gpu:
            report({side: results[side] for side in ("strop", "strop-exact")}, "strop-exact")
            seven_billion()


def seven_billion() -> None:
    """One real step of the recipe llama-7b-lora on random weights: its peak memory, against 24 GB."""
    test = REPOSITORY / "tests/finetune/test_gpu.py"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", "-m", "gpu", "-k", "7b", str(test)], check=False)


def fastest(root: Path, options: argparse.Namespace) -> str:
    """TRL's fastest configuration, by a few steps of each, with torch's default number of threads, with Strop's, and with one per
    core that is not kept busy: takes minutes on a CPU. Configurations with bf16 are left out on a processor without native bf16,
    where they hardly progress. Sets `threads` to the fastest number.
    """
    from tasks.base.precision import best_precision
    from tasks.runtime.threads import Threads

    sides = [side for side, settings in TRL.items() if best_precision() == "bf16" or not settings["bf16"]]
    ours = Threads("benchmark").choose().threads
    counts = [None] if options.gpu else [None, *sorted({ours, max(ours - options.busy, 1)}, reverse=True)]
    probes: dict[tuple[str, int | None], float] = {}
    for side in [options.against] if options.against else sides:
        for options.threads in counts:
            probes[side, options.threads] = run(side, PROBE_STEPS, root, options)["tokens_per_second"]
    speeds = ", ".join(
        f"{side} with {count or 'the default number of'} threads {speed:.0f}" for (side, count), speed in probes.items()
    )
    print(f"TRL, tokens/s in {PROBE_STEPS} steps each: {speeds}", flush=True)
    best, options.threads = max(probes, key=lambda probe: probes[probe])
    return best


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Strop's training step against TRL's.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--against", choices=TRL, help="this configuration of TRL, with its best number of threads")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="keep N cores busy")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--llamafactory", type=Path, help="compare with LLaMA-Factory in this virtual environment, too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.full and options.llamafactory:
        parser.error("--llamafactory compares LoRA only: leave out --full")
    return options


def prepare(root: Path, options: argparse.Namespace) -> None:
    """Makes a project with rendered rows, by Strop's own rooms; once for all contenders."""
    tools = toy_tools()

    tools.set_up_project(root)
    sources = [
        {"name": "alpaca", "path": str((options.rows / ROWS[0]).resolve()), "shape": "alpaca"},
        {"name": "banking", "path": str((options.rows / ROWS[1]).resolve()), "shape": "text_label", "max_rows": 1000},
    ]
    sources[0]["family"], sources[1]["family"] = "instruction", "intent"
    sources[1]["columns"] = {"label": "category"}
    tuned: dict[str, Any] = {"schedule": "constant", "warmup_share": 0, "threads": None, "lora": {"rank": 16}}
    tuned |= {"method": "full", "learning_rate": FULL_RATE} if options.full else {"learning_rate": LORA_RATE}
    config = tools.params(
        options.base, sources, finetune={**tuned, "max_steps": options.steps, "evaluations_per_epoch": 0}
    )
    config["render"] = {"max_length_tokens": 1024, "pack_length_tokens": 1024}
    tools.write_params(root, config)
    for room in ("ingest", "validate", "curate", "render"):
        subprocess.run([sys.executable, "-m", "tasks", room], cwd=root, check=True, stdout=subprocess.DEVNULL)
    with chdir(root):
        keep_packed_rows(options.steps)
        if options.llamafactory:
            write_rows()


def run(side: str, steps: int, root: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--side", side, "--steps", str(steps)]
    command += [*["--gpu"] * options.gpu, *["--full"] * options.full]
    if options.threads is not None:
        command += ["--threads", str(options.threads)]
    environment = os.environ | {"GOMP_SPINCOUNT": "30000", "PYTHONPATH": str(REPOSITORY)}
    if side == LLAMA_FACTORY:
        script = Path(__file__).with_name("finetune_llamafactory.py")
        command = [str(options.llamafactory.absolute() / "bin/python"), str(script), str(steps)]
        environment = os.environ | {"DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
        environment |= {} if options.gpu else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.rsplit("RESULT ", 1)[1])
    if side == LLAMA_FACTORY:  # measured by the same code as the losses of the others
        with chdir(root):
            result["loss"] = held_out_loss(Path("data/model"))
    print(f"{side:<16}{result['tokens_per_second']:7.0f} tokens/s {result['peak_mb']:7.0f} MB", flush=True)
    return result


def report(results: dict[str, list[dict[str, float]]], best: str) -> None:
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for side, runs in results.items()
    }
    print(f"\nmedian of {len(results[best])} pairs")
    for side, values in medians.items():
        line = "".join(f"  {name} {value:,.4g}" for name, value in values.items())
        print(f"  {side:<16}{line}")
    ours, theirs = medians["strop"], medians[best]
    ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(*results.values(), strict=True)]
    print(f"  speed  {statistics.median(ratios):.2f} x {best} ({min(ratios):.2f}-{max(ratios):.2f})")
    print(
        f"  memory {ours['peak_mb'] / theirs['peak_mb']:.2f} x · held-out loss {ours['loss'] / theirs['loss'] - 1:+.2%}"
    )


if __name__ == "__main__":
    main()
