"""Strop's training step against TRL's, on the same tokens. Run: .venv/bin/python benchmarks/finetune.py [--pairs 3] [--steps 12]

    --rows FOLDER   where llamafactory/alpaca_en_demo.json and banking77/train.csv lie (default: STROP_SHARED_DATA, or
                    ../shared/data)
    --base MODEL    default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)
    --against SIDE  the side of TRL to compare with, if its best is known
    --llamafactory FOLDER   a virtual environment with LLaMA-Factory (finetune_llamafactory.py says how), to compare with it too
    --full          train every weight, instead of LoRA r=16 on all linear layers
    --gpu           bf16 on the GPU, flash attention where it is installed, and a step of llama-7b-lora; else all is done on the CPU

The rows are rendered once, and as many packed rows as there are steps are drawn of them: all contenders see the same examples once,
so that their losses afterwards can be compared. Each trains in a process of its own, on those very token ids, with AdamW, a
constant learning rate and about 1,024 tokens a step:

    strop       the room `finetune`
    strop-exact ... with `deterministic: true`, with --gpu only: what the same bits again cost there
    trl         SFTTrainer as it comes
    trl-bf16    ... with bf16
    trl-packed-fp32  ... with packing, which is its best where the processor does not compute in bf16
    trl-packed  ... with bf16 and packing
    llama-f     LLaMA-Factory with bf16 and packing, where --llamafactory says where it is

TRL's best is found by one short run of each; then pairs of it and Strop are run in turn. Printed: tokens a second (median over
the steps, the first left out), peak memory, the loss on the same held-out rows afterwards, and Strop's share of a matrix product.
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

from measuring import BASE, REPOSITORY, data_folder, missing, quieten, require_base, require_rows

quieten()

from finetune_llamafactory import write_rows  # noqa: E402
from finetune_sides import FULL_RATE, LORA_RATE, SIDES, TRL, held_out_loss, keep_packed_rows, train  # noqa: E402

LLAMA_FACTORY = "llama-f"
ROWS = ("llamafactory/alpaca_en_demo.json", "banking77/train.csv")


def main() -> None:
    given = parse()
    if given.side:
        print("RESULT " + json.dumps(train(given.side, given.steps, given.gpu, given.full)), flush=True)
        return
    require_rows(given.rows, *ROWS)
    require_base(given.base)
    if given.llamafactory and not (given.llamafactory / "bin/python").exists():
        missing(
            f"{given.llamafactory} is no virtual environment", "benchmarks/finetune_llamafactory.py says how to make it"
        )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        prepare(root, given)
        best = given.against or fastest(root, given)
        results: dict[str, list[dict[str, float]]] = {"strop": [], best: []}
        if given.llamafactory:
            results[LLAMA_FACTORY] = []
        if given.gpu:
            results["strop-exact"] = []
        for number in range(given.pairs):
            for side in results if number % 2 == 0 else reversed(results):
                results[side].append(run(side, given.steps, root, given))
        report({side: results[side] for side in ("strop", best)}, best)
        if given.llamafactory:
            report({side: results[side] for side in ("strop", LLAMA_FACTORY)}, LLAMA_FACTORY)
        if given.gpu:
            report({side: results[side] for side in ("strop", "strop-exact")}, "strop-exact")
            seven_billion()


def seven_billion() -> None:
    """One real step of the recipe llama-7b-lora, on random weights: its memory, against 24 GB."""
    test = REPOSITORY / "tests/finetune/test_gpu.py"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", "-m", "gpu", "-k", "7b", str(test)], check=False)


def fastest(root: Path, given: argparse.Namespace) -> str:
    """TRL's best, by four steps of each: takes minutes on a CPU. Not in bf16 where the processor does not compute in it: without
    end."""
    from tasks.base.load import best_precision

    sides = [side for side, how in TRL.items() if best_precision() == "bf16" or not how["bf16"]]
    probes = {side: run(side, 4, root, given)["tokens_per_second"] for side in sides}
    print("TRL, 4 steps each: " + ", ".join(f"{side} {speed:.0f}" for side, speed in probes.items()), flush=True)
    return max(probes, key=lambda side: probes[side])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Strop's training step against TRL's.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--against", choices=TRL, help="do not look for TRL's best")
    parser.add_argument("--llamafactory", type=Path, help="a virtual environment that it is installed in")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.full and given.llamafactory:
        parser.error("LLaMA-Factory is compared by LoRA alone")
    return given


def prepare(root: Path, given: argparse.Namespace) -> None:
    """A project with the rows rendered: done once, by the rooms themselves."""
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
    from conftest import params, set_up_project, write_params

    set_up_project(root)
    sources = [
        {"name": "alpaca", "path": str((given.rows / ROWS[0]).resolve()), "shape": "alpaca"},
        {"name": "banking", "path": str((given.rows / ROWS[1]).resolve()), "shape": "text_label", "max_rows": 1000},
    ]
    sources[0]["family"], sources[1]["family"] = "instruction", "intent"
    sources[1]["columns"] = {"label": "category"}
    tuned: dict[str, Any] = {"schedule": "constant", "warmup_share": 0, "threads": None, "lora": {"rank": 16}}
    tuned |= {"method": "full", "learning_rate": FULL_RATE} if given.full else {"learning_rate": LORA_RATE}
    config = params(given.base, sources, finetune={**tuned, "max_steps": given.steps, "evaluations_per_epoch": 0})
    config["render"] = {"max_length_tokens": 1024, "pack_length_tokens": 1024}
    write_params(root, config)
    for room in ("ingest", "validate", "curate", "render"):
        subprocess.run([sys.executable, "-m", "tasks", room], cwd=root, check=True, stdout=subprocess.DEVNULL)
    with chdir(root):
        keep_packed_rows(given.steps)
        if given.llamafactory:
            write_rows()


def run(side: str, steps: int, root: Path, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--side", side, "--steps", str(steps)]
    command += [*["--gpu"] * given.gpu, *["--full"] * given.full]
    environment = os.environ | {"GOMP_SPINCOUNT": "30000", "PYTHONPATH": str(REPOSITORY)}
    if side == LLAMA_FACTORY:
        script = Path(__file__).with_name("finetune_llamafactory.py")
        command = [str(given.llamafactory.absolute() / "bin/python"), str(script), str(steps)]
        environment = os.environ | {"DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}
        environment |= {} if given.gpu else {"CUDA_VISIBLE_DEVICES": ""}
    told = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(told.stdout.rsplit("RESULT ", 1)[1])
    if side == LLAMA_FACTORY:  # by the same code as the others'
        with chdir(root):
            result["loss"] = held_out_loss(Path("data/model"))
    print(f"{side:<16}{result['tokens_per_second']:7.0f} tokens/s {result['peak_mb']:7.0f} MB", flush=True)
    return result


def report(results: dict[str, list[dict[str, float]]], best: str) -> None:
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for side, runs in results.items()
    }
    print(f"\nmedian of {len(results[best])} pairs")
    for side, found in medians.items():
        told = "".join(f"  {name} {value:,.4g}" for name, value in found.items())
        print(f"  {side:<16}{told}")
    ours, theirs = medians["strop"], medians[best]
    ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(*results.values(), strict=True)]
    print(f"  speed  {statistics.median(ratios):.2f} x {best} ({min(ratios):.2f}-{max(ratios):.2f})")
    print(
        f"  memory {ours['peak_mb'] / theirs['peak_mb']:.2f} x · held-out loss {ours['loss'] / theirs['loss'] - 1:+.2%}"
    )


if __name__ == "__main__":
    main()
