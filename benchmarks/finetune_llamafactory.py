"""LLaMA-Factory's part of benchmarks/finetune.py, in a virtual environment of its own, since it needs older libraries.

    python3 -m venv FOLDER && FOLDER/bin/pip install llamafactory torch==2.13.0   # torchaudio fits no newer torch
    .venv/bin/python benchmarks/finetune.py --llamafactory FOLDER

It trains the same base on the same rows (as messages, which it tokenises itself by its template for the base): LoRA r=16 on all
linear layers, rows packed to 1,024 tokens, bf16. PyPI's torchvision and torchaudio do not load with a CPU build of torch. They are
not needed for text: uninstall both, and put an empty torchaudio.py into FOLDER's site-packages. FOLDER's Python runs this file in
the project's folder. Only `write_rows`, which Strop's own Python calls, imports modules of Strop.
"""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(".strop/llamafactory")
OUTPUT = Path("data/model")
TEMPLATE = "smollm2"


def write_rows() -> None:
    """Writes Strop's training rows for LLaMA-Factory, in the current folder's project."""
    from tasks.base.convert import base_folder
    from tasks.base.pin import read_base
    from tasks.dataset.read import read_dataset
    from tasks.dataset.rendered import read_rendered
    from tasks.prompts.templates.conversation import make_conversation
    from tasks.prompts.templates.templates import read_templates

    families = read_templates()
    known = {row_id.decode() for row_id in read_rendered("train").ids}
    rows = [
        {"messages": make_conversation(families[row["family"]].choose(row), row).messages}
        for row in read_dataset(known).to_pylist()
    ]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "rows.json").write_text(json.dumps(rows))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    dataset = {"file_name": "rows.json", "formatting": "sharegpt", "columns": {"messages": "messages"}}
    (FOLDER / "dataset_info.json").write_text(
        json.dumps({"rows": {**dataset, "tags": {**tags, "system_tag": "system"}}})
    )
    (FOLDER / "base.txt").write_text(str(base_folder(read_base()).resolve()))


def train(steps: int) -> dict[str, float]:
    """Trains for some steps; returns tokens per second (median over the steps without the first), and peak memory in MB."""
    import torch
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    marks: list[tuple[float, int]] = []

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks.append((time.monotonic(), int(state.num_input_tokens_seen)))

    arguments = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": (FOLDER / "base.txt").read_text(),
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": "all",
        "dataset_dir": str(FOLDER),
        "dataset": "rows",
        "template": TEMPLATE,
        "cutoff_len": 1024,
        "packing": True,
        "output_dir": str(OUTPUT),
        "per_device_train_batch_size": 1,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "max_steps": steps,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "include_num_input_tokens_seen": "all",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_gradient_checkpointing": True,
        "seed": 17,
    }
    shutil.rmtree(
        OUTPUT, ignore_errors=True
    )  # another contender's model; LLaMA-Factory refuses a folder that is not empty
    run_exp(args=arguments, callbacks=[Mark()])
    speeds = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(marks)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"tokens_per_second": statistics.median(speeds), "matmul_share": 0.0, "peak_mb": peak_mb}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("finetune_llamafactory.py: run finetune.py --llamafactory FOLDER, which runs this file", file=sys.stderr)
        raise SystemExit(2)
    print("RESULT " + json.dumps(train(int(sys.argv[1]))), flush=True)
