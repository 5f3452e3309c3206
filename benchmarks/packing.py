"""Held-out loss per family, after training on mixed packed rows and on rows packed by best-fit decreasing.

Run: .venv/bin/python benchmarks/packing.py [--each 64] [--epochs 1]

    --rows FOLDER   the folder with t0/t0.jsonl.gz (default: STROP_SHARED_DATA, or ../shared/data)
    --base MODEL    default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)
    --each N        rows of each of the five families (default 64)
    --epochs N      default 1

Both see the same examples and tokens, in the same number of packed rows or one fewer; they differ only in which examples share a
row (docs/decisions/0015-packing.md). Printed for each variant: packed rows; trained tokens per row (5 %, mean, 95 %); the mean
weights of the families' trained tokens (one over the trained tokens of their row), largest over smallest; the mean and the standard
deviation of the training loss; and the loss on held-out rows in nats per trained token, by family and over all.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measuring import BASE, REPOSITORY, data_folder, quieten, require_base, require_rows, toy_tools

quieten()

ROWS = "t0/t0.jsonl.gz"
FAMILIES = {
    "topic": ("ag_news_classify", "ag_news_which", "dbpedia", "trec"),
    "sentiment": ("rotten_tomatoes", "imdb", "amazon_polarity", "app_reviews_categorize"),
    "summary": ("gigaword", "xsum", "samsum", "cnn_dailymail_3_0_0_news_summary"),
    "qa": ("adversarial_qa", "ropes", "quoref"),
    "instruction": ("common_gen", "paws", "glue_mrpc"),
}
"""Family → prefixes of the names of its tasks."""
LONGEST = 1500
"""Maximal number of characters of a prompt."""
WAYS = ("best-fit", "mixed")


def main() -> None:
    options = parse()
    if options.way:
        print("RESULT " + json.dumps(measure(options.way)), flush=True)
        return
    require_rows(options.rows, ROWS)
    require_base(options.base)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        prepare(root, options)
        results = {}
        for way in WAYS:
            copy = Path(shutil.copytree(root, Path(folder) / way, symlinks=True))
            command = [sys.executable, str(Path(__file__)), "--way", way]
            environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, cwd=copy, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            results[way] = json.loads(done.stdout.rsplit("RESULT ", 1)[1])
        for name in results["mixed"]:
            print(f"{name:<28}" + "".join(f"  {way} {results[way][name]:>10}" for way in WAYS))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Mixed packed rows against best-fit decreasing: held-out loss per family."
    )
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--each", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(root: Path, options: argparse.Namespace) -> None:
    """Makes a project with curated rows."""
    tools = toy_tools()

    tools.set_up_project(root)
    sources = []
    for family, rows in read_families(options.rows / ROWS, options.each).items():
        path = tools.write_jsonl(root / f"inbox/{family}.jsonl", rows)
        sources.append({"name": family, "path": str(path), "shape": "prompt_completion", "family": family})
    config = tools.params(options.base, sources)
    config["validate"]["max_refused_share"] = 1.0
    config["curate"] = {"valid_share": 0.3, "test_share": 0.02}
    config["render"] = {"max_length_tokens": 512, "pack_length_tokens": 512}
    config["finetune"] = {"epochs": options.epochs, "learning_rate": 2e-4, "threads": None, "lora": {"rank": 16}}
    config["finetune"]["evaluations_per_epoch"] = 0
    tools.write_params(root, config)
    for room in ("ingest", "validate", "curate"):
        subprocess.run([sys.executable, "-m", "tasks", room], cwd=root, check=True, stdout=subprocess.DEVNULL)


def read_families(path: Path, count: int) -> dict[str, list[dict[str, str]]]:
    """A random sample of `count` rows of each family."""
    rows: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            for family, tasks in FAMILIES.items():
                if row["task"].startswith(tasks) and len(row["prompt"]) <= LONGEST:
                    rows[family].append({"prompt": row["prompt"], "completion": row["completion"]})
    return {family: random.Random(0).sample(of_family, count) for family, of_family in sorted(rows.items())}


def measure(way: str) -> dict[str, Any]:
    """Renders, trains and measures in the current folder's project."""
    from tasks import paths
    from tasks.config import load_config
    from tasks.dataset.rendered import read_rendered
    from tasks.finetune.stage import run as finetune
    from tasks.render.packing import packing
    from tasks.render.stage import run as render

    if way == "best-fit":
        packing.PARTS = (0,)
        packing._balance_trained = lambda *_: None
    config = load_config()
    render(config)
    train = read_rendered("train")
    finetune(config)
    events = [json.loads(line) for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if "tokens_per_second" in event]
    later = losses[len(losses) // 2 :]
    return {
        **describe_rows(train),
        "tokens": len(train.input_ids),
        "steps": len(losses),
        "loss of later steps": round(statistics.mean(later), 3),
        "its standard deviation": round(statistics.pstdev(later), 3),
        **{f"held-out {family}": round(loss, 3) for family, loss in held_out_losses().items()},
    }


def describe_rows(train: Any) -> dict[str, Any]:
    from tasks.dataset.read import read_dataset

    ids = [row_id.decode() for row_id in train.ids.tolist()]
    family_of = {row["row_id"]: row["family"] for row in read_dataset(set(ids)).to_pylist()}
    trained = np.add.reduceat(train.loss_mask.astype(np.int64), train.examples[:-1])
    a_row = np.bincount(train.packs, weights=trained)
    weights: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for row_id, pack, tokens in zip(ids, train.packs.tolist(), trained.tolist(), strict=True):
        weights[family_of[row_id]].append((tokens, tokens / a_row[pack]))
    means = [sum(w for _, w in pairs) / sum(t for t, _ in pairs) for pairs in weights.values()]
    low, high = np.percentile(a_row, [5, 95])
    return {
        "examples": len(ids),
        "packed rows": len(train),
        "trained tokens a row": f"{low:.0f}, {a_row.mean():.0f}, {high:.0f}",
        "weight": round(max(means) / min(means), 2),
    }


def held_out_losses() -> dict[str, float]:
    """Mean cross-entropy per answer token of the validation rows, by family and over all, by transformers in fp32."""
    import pyarrow.parquet as pq
    import torch

    from tasks.base.load import load_trained
    from tasks.base.pin import read_base
    from tasks.dataset.rendered import VALID, read_rendered

    family_of = {row["row_id"]: row["family"] for row in pq.read_table(VALID).to_pylist()}
    valid = read_rendered("valid")
    model = load_trained(Path("data/model"), read_base())
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for row_id, (start, end) in zip(valid.ids.tolist(), itertools.pairwise(valid.examples.tolist()), strict=True):
        ids = torch.tensor([valid.input_ids[start:end].tolist()])
        mask = np.array(valid.loss_mask[start + 1 : end], dtype=bool)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy()
        for name in (family_of[row_id.decode()], "all"):
            sums[name][0] += float(losses[mask].sum())
            sums[name][1] += int(mask.sum())
    return {name: total / count for name, (total, count) in sorted(sums.items())}


if __name__ == "__main__":
    main()
