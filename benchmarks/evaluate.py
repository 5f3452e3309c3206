"""Generation for evaluation, against transformers' and CTranslate2's. Run: .venv/bin/python benchmarks/evaluate.py [--busy 1]

    --rows FOLDER     the folder with llamafactory/alpaca_en_demo.json and banking77/train.csv (default: STROP_SHARED_DATA, or
                      ../shared/data)
    --base MODEL      default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)
    --prompts N       default: 64, half from each file
    --new-tokens N    maximum length of an answer; default: 48
    --pairs N         runs of Strop and of batched `generate`, alternately; default: 3
    --processes N     of Strop; default: one for each free core
    --threads N       torch threads of batched `generate`; default: one for each core
    --busy N          keep N cores busy for the whole run, as on a machine with other work

Every side gets the same token ids, answers greedily in fp32, and runs in a process of its own. Its seconds do not include loading.

    strop     the embedded engine, with as many processes as there are free cores
    one       transformers' `generate`, one prompt after the other, with a thread for each free core
    batched   transformers' `generate`, in padded batches of as many rows, longest prompts first
    ct2       CTranslate2, as many workers as cores with one thread each; only if `ctranslate2` is installed

Printed: seconds, CPU seconds (of all threads and processes), tokens per second, the ratio of seconds to Strop's, and the
number of answers whose tokens differ from Strop's.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

from measuring import BASE, REPOSITORY, busy_cores, data_folder, describe_machine, quieten, require_base, require_rows

quieten()
sys.path.insert(0, str(REPOSITORY))

ROWS = ("llamafactory/alpaca_en_demo.json", "banking77/train.csv")
BATCH_ROWS = 32
INTENT = "What is the intent of this customer's message? Answer with a short label.\n\n"


def main() -> None:
    options = parse()
    if options.side:
        print("RESULT " + json.dumps(SIDES[options.side](options)), flush=True)
        return
    require_rows(options.rows, *ROWS)
    require_base(options.base)
    with tempfile.TemporaryDirectory() as folder, busy_cores(options.busy):
        options.folder = Path(folder)
        prepare(options)
        print(f"{describe_machine()}, {options.busy} cores kept busy", flush=True)
        results: dict[str, list[dict[str, Any]]] = {"strop": [], "batched": []}
        for number in range(options.pairs):
            for side in ("strop", "batched") if number % 2 == 0 else ("batched", "strop"):
                results[side].append(run(side, options))
        results["one"] = [run("one", options)]
        if importlib.util.find_spec("ctranslate2"):
            results["ct2"] = [run("ct2", options)]
        report(results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Generation for evaluation, against transformers' and CTranslate2's.")
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--processes", type=int, help="of Strop; default: one for each free core")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of batched `generate`")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="keep N cores busy")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> None:
    """Writes the model and the prompts' token ids to the folder."""
    from tasks.base.convert import base_folder
    from tasks.base.load import load_tokenizer
    from tasks.base.pin import pin_base
    from tasks.base.settings import BaseSettings

    with chdir(options.folder):  # the pinned base is written there
        base = base_folder(pin_base(BaseSettings(model=options.base)))
    (options.folder / "model").symlink_to(base)
    tokenizer = load_tokenizer(base)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        for text in read_texts(options.rows, options.prompts)
    ]
    (options.folder / "prompts.json").write_text(json.dumps(prompts))


def read_texts(rows: Path, count: int) -> list[str]:
    instructions = json.loads((rows / ROWS[0]).read_text(encoding="utf-8"))[: count - count // 2]
    with (rows / ROWS[1]).open(encoding="utf-8", newline="") as file:
        messages = list(csv.DictReader(file))
    chosen = messages[:: max(len(messages) // max(count // 2, 1), 1)][: count // 2]
    texts = [f"{row['instruction']}\n{row['input']}".strip() for row in instructions]
    return texts + [INTENT + row["text"] for row in chosen]


def load(options: argparse.Namespace) -> tuple[Any, Any, list[list[int]], list[int]]:
    from tasks.base.generation import end_token_ids
    from tasks.base.load import load_tokenizer, load_weights

    folder = (options.folder / "model").resolve()
    model, tokenizer = load_weights(folder), load_tokenizer(folder)
    prompts = json.loads((options.folder / "prompts.json").read_text())
    return model, tokenizer, prompts, end_token_ids(model, tokenizer)


def side_strop(options: argparse.Namespace) -> dict[str, Any]:
    from tasks.inference.embedded import EmbeddedEngine
    from tasks.runtime.threads import Threads

    # before the model is loaded, as in the stage: it measures the load from here on, for 0.3 s at least
    threads = Threads("benchmark", is_quiet=True)
    model, tokenizer, prompts, ends = load(options)
    tokenizer_of_ids = TokensAsText(tokenizer)
    engine = EmbeddedEngine(
        model,
        tokenizer_of_ids,
        stage="benchmark",
        rows=BATCH_ROWS,
        threads=threads,
        processes=options.processes,
        positions=2048,
    )
    clock = Clock()
    answers = engine.generate(prompts, options.new_tokens)
    return clock.read() | {"tokens": [without_end(json.loads(answer.text), ends) for answer in answers]}


class Clock:
    """Seconds and CPU seconds since it was made, of this process and of its children that have ended."""

    def __init__(self) -> None:
        self.started, self.cpu = time.perf_counter(), sum(os.times()[:4])

    def read(self) -> dict[str, Any]:
        return {"seconds": time.perf_counter() - self.started, "cpu_seconds": sum(os.times()[:4]) - self.cpu}


class TokensAsText:
    """A tokenizer whose `decode` returns the token ids as JSON, so that the engine returns them."""

    added_tokens_decoder: dict[int, Any] = {}

    def __init__(self, tokenizer: Any) -> None:
        self.eos_token_id, self.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return json.dumps(ids)


def side_one(options: argparse.Namespace) -> dict[str, Any]:
    from tasks.runtime.threads import Threads

    return transformers_generate(options, rows=1, threads=Threads("benchmark").choose().threads)


def side_batched(options: argparse.Namespace) -> dict[str, Any]:
    return transformers_generate(options, rows=BATCH_ROWS, threads=options.threads)


def transformers_generate(options: argparse.Namespace, rows: int, threads: int) -> dict[str, Any]:
    import torch

    model, tokenizer, prompts, ends = load(options)
    torch.set_num_threads(threads)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    answers: list[list[int]] = [[]] * len(prompts)
    clock = Clock()
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        width = max(len(prompts[index]) for index in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(batch):
            ids[row, width - len(prompts[index]) :] = torch.tensor(prompts[index])
            mask[row, width - len(prompts[index]) :] = 1
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=options.new_tokens, do_sample=False,
                temperature=None, top_p=None, top_k=None, pad_token_id=tokenizer.pad_token_id, eos_token_id=ends,
            )  # fmt: skip
        for index, tokens in zip(batch, out[:, width:].tolist(), strict=True):
            answers[index] = without_end(tokens, ends)
    return clock.read() | {"tokens": answers}


def side_ct2(options: argparse.Namespace) -> dict[str, Any]:
    import ctranslate2

    _, tokenizer, prompts, ends = load(options)
    converted = options.folder / "ct2"
    converter = ctranslate2.converters.TransformersConverter(str((options.folder / "model").resolve()))
    converter.convert(str(converted), force=True)
    generator = ctranslate2.Generator(
        str(converted), compute_type="float32", inter_threads=os.cpu_count() or 1, intra_threads=1
    )
    texts = [tokenizer.convert_ids_to_tokens(prompt) for prompt in prompts]
    clock = Clock()
    results = generator.generate_batch(
        texts, max_batch_size=BATCH_ROWS // 2, beam_size=1, max_length=options.new_tokens,
        include_prompt_in_result=False, end_token=[int(end) for end in ends],
    )  # fmt: skip
    return clock.read() | {"tokens": [without_end(result.sequences_ids[0], ends) for result in results]}


SIDES = {"strop": side_strop, "one": side_one, "batched": side_batched, "ct2": side_ct2}


def without_end(tokens: list[int], ends: list[int]) -> list[int]:
    """The tokens before the first end token."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def run(side: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), "--side", side, "--folder", str(options.folder)]
    command += ["--new-tokens", str(options.new_tokens), "--threads", str(options.threads)]
    command += ["--processes", str(options.processes)] if options.processes else []
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.rsplit("RESULT ", 1)[1])
    count = sum(map(len, result["tokens"]))
    seconds, cpu = result["seconds"], result["cpu_seconds"]
    print(f"{side:<10}{seconds:7.1f} s {cpu:7.1f} CPU s {count / seconds:7.1f} tokens/s", flush=True)
    return result


def report(results: dict[str, list[dict[str, Any]]]) -> None:
    ours = results["strop"][0]["tokens"]
    seconds = {side: [result["seconds"] for result in runs] for side, runs in results.items()}
    middle = statistics.median(seconds["strop"])
    print(f"\n{len(ours)} answers, {sum(map(len, ours))} tokens")
    for side, runs in results.items():
        different = sum(theirs != own for theirs, own in zip(runs[-1]["tokens"], ours, strict=True))
        if side == "batched":
            ratios = [theirs / own for theirs, own in zip(seconds[side], seconds["strop"], strict=True)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        else:
            ratio = f"{statistics.median(seconds[side]) / middle:.2f}"
        print(f"{side:<10}{statistics.median(seconds[side]):7.1f} s   ratio {ratio}   {different} answers differ")


if __name__ == "__main__":
    main()
