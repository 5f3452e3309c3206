"""The contenders of benchmarks/finetune.py: each trains in the current folder's project, and returns its measurements."""

from __future__ import annotations

import itertools
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

TRL = {
    "trl": {"bf16": False, "packing": False},
    "trl-bf16": {"bf16": True, "packing": False},
    "trl-packed-fp32": {"bf16": False, "packing": True},
    "trl-packed": {"bf16": True, "packing": True},
}
SIDES = ("strop", "strop-exact", *TRL)
LORA_RATE, FULL_RATE = 2e-4, 2e-5
HELD_OUT = 40
"""Validation examples whose loss is measured at the end."""


def train(side: str, steps: int, on_gpu: bool, is_full: bool, threads: int | None = None) -> dict[str, float]:
    """Trains for some steps; returns tokens per second, peak memory in MB, and the loss on held-out rows in nats.

    Args:
        threads: TRL's number of threads; None is torch's default. Strop chooses its own.
    """
    import torch

    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("--gpu: there is no GPU here")
    result = (
        _trl(steps, on_gpu, is_full, threads, **TRL[side])
        if side in TRL
        else _strop(steps, is_exact=side == "strop-exact")
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    result["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else peak
    result["loss"] = held_out_loss(Path("data/model"))
    return result


def _strop(steps: int, is_exact: bool) -> dict[str, float]:
    import json

    from tasks import paths
    from tasks.config import load_config
    from tasks.finetune.stage import run

    config = load_config()
    changed = {"max_steps": steps, "deterministic": is_exact}
    run(config.model_copy(update={"finetune": config.finetune.model_copy(update=changed)}))
    events = [json.loads(line) for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
    speeds = [event["tokens_per_second"] for event in events if "tokens_per_second" in event]
    shares = [event["model_flops_utilisation"] for event in events if "model_flops_utilisation" in event]
    return {"tokens_per_second": statistics.median(speeds[1:]), "matmul_share": shares[-1] if shares else 0.0}


def _trl(steps: int, on_gpu: bool, is_full: bool, threads: int | None, bf16: bool, packing: bool) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tasks.base.convert import base_folder
    from tasks.base.load import load_base, load_tokenizer
    from tasks.base.pin import read_base
    from tasks.dataset.rendered import read_rendered
    from tasks.finetune.step.gpu_kernels import FLASH, attention_on_gpu

    if threads is not None:
        torch.set_num_threads(threads)
    record = read_base()
    rows = _examples(read_rendered("train"))
    mean = sum(len(row["input_ids"]) for row in rows) / len(rows)
    marks: list[tuple[float, float]] = []

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "num_tokens" in logs:
                marks.append((time.monotonic(), float(logs["num_tokens"])))

    config = SFTConfig(
        output_dir=".strop/trl",
        max_steps=steps,
        per_device_train_batch_size=1 if packing else max(1, round(1024 / mean)),
        max_length=1024,
        packing=packing,
        bf16=bf16,
        use_cpu=not on_gpu,
        learning_rate=FULL_RATE if is_full else LORA_RATE,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        seed=17,
    )
    adapter = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    model = load_base(record, "fp32")
    if on_gpu and bf16 and attention_on_gpu("bf16") == FLASH:  # as TRL recommends with packing
        model.set_attn_implementation(FLASH)
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(base_folder(record)),
        peft_config=None if is_full else adapter,
        callbacks=[Mark()],
    )
    trainer.train()
    trainer.model.save_pretrained("data/model")
    speeds = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(marks)]
    return {"tokens_per_second": statistics.median(speeds), "matmul_share": 0.0}


def _examples(rendered: Any) -> list[dict[str, list[int]]]:
    """The unpacked examples, in TRL's layout for tokenised rows."""
    edges = rendered.examples.tolist()
    return [
        {
            "input_ids": rendered.input_ids[start:end].tolist(),
            "completion_mask": rendered.loss_mask[start:end].tolist(),
        }
        for start, end in itertools.pairwise(edges)
    ]


def keep_packed_rows(count: int) -> None:
    """Keeps `count` random packed rows of the training split in the current folder's project, and removes the others."""
    import shutil

    from tasks import paths
    from tasks.dataset.rendered import read_rendered
    from tasks.render.packing.arrays import ArrayWriter, Piece, flatten

    rendered = read_rendered("train")
    folder = paths.RENDERED / "answers"
    with ArrayWriter(folder / "kept") as writer:
        for pack in np.random.default_rng(0).permutation(len(rendered))[:count].tolist():
            edges, ids = rendered.bounds(pack).tolist(), rendered.row_ids(pack)
            spans = [slice(first, last) for first, last in itertools.pairwise(edges)]
            pieces = [
                Piece(row_id, np.array(rendered.input_ids[span]), np.array(rendered.loss_mask[span]))
                for row_id, span in zip(ids, spans, strict=True)
            ]
            writer.add(flatten(pieces))
        writer.write(1024)
    shutil.rmtree(folder / "train")
    (folder / "kept").rename(folder / "train")


def held_out_loss(folder: Path) -> float:
    """Mean cross-entropy per answer token of the first validation examples, by transformers in fp32, without Strop's step."""
    import torch

    from tasks.base.load import load_trained
    from tasks.base.pin import read_base
    from tasks.dataset.rendered import read_rendered

    model = load_trained(folder, read_base())
    total, count = 0.0, 0
    for example in _examples(read_rendered("valid"))[:HELD_OUT]:
        ids = torch.tensor([example["input_ids"]], device=model.device)
        mask = np.array(example["completion_mask"][1:], dtype=bool)
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").cpu().numpy()
        total, count = total + float(losses[mask].sum()), count + int(mask.sum())
    return total / count
