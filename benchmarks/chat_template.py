"""Speed-up of `render` by the cached chat template. Run: .venv/bin/python benchmarks/chat_template.py [--pairs 3] [--count 20000]

    --rows FOLDER   the folder with t0/t0.jsonl.gz (default: STROP_SHARED_DATA, or ../shared/data)
    --base MODEL    its tokenizer and chat template are used; default: SmolLM2-135M-Instruct of the demo (`make demo` installs it)

Two variants of the room `render` on the same rows, each in a process of its own, alternating; imports and loading of the tokenizer
are not counted:

    cached   the default: the text around the contents is computed once per structure of conversation (tasks/render/
             templates/chat_template_cache.py), for templates that the data-flow analysis accepts (template_analysis.py)
    exact    without the analysis: the chat template is applied to every turn of every row

Both must write the same arrays. Printed: medians of wall and CPU seconds, peak memory, and their ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import prepare
from measuring import BASE, REPOSITORY, data_folder, quieten, require_base, require_rows, run_measured

VARIANTS = ("cached", "exact")
ARRAYS = "data/rendered/answers/train"


def main() -> None:
    quieten()
    parser = argparse.ArgumentParser(description="Speed-up of render by the cached chat template.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--count", type=int, default=20_000, help="rows")
    parser.add_argument("--rows", type=Path, default=data_folder())
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        prepare.RESULT.write_text(json.dumps(render(arguments.variant)))
        return
    require_rows(arguments.rows, prepare.ROWS)
    require_base(arguments.base)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        prepare.make_rendered(root, arguments)
        results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        digests = set()
        for number in range(arguments.pairs):
            for variant in VARIANTS if number % 2 == 0 else reversed(VARIANTS):
                results[variant].append(run(variant, root))
                digests.add(digest_of(root / ARRAYS))
        assert len(digests) == 1, "both variants must write the same arrays"
        report(results)


def render(variant: str) -> dict[str, float]:
    from tasks.prompts.templates import chat_template_cache

    if variant == "exact":
        chat_template_cache.compared_texts = lambda _: None
    return prepare.strop()


def run(variant: str, root: Path) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__)), "--variant", variant]
    _, peak_mb = run_measured(command, cwd=root, env=environment)
    result: dict[str, float] = json.loads((root / prepare.RESULT).read_text()) | {"peak_mb": peak_mb}
    print(f"{variant:<7} {result['seconds']:6.1f} s {result['cpu_seconds']:6.1f} CPU s {peak_mb:7,.0f} MB", flush=True)
    return result


def digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.npy")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def report(results: dict[str, list[dict[str, float]]]) -> None:
    names = ("seconds", "cpu_seconds", "peak_mb")
    medians = {
        variant: {name: statistics.median(run[name] for run in runs) for name in names}
        for variant, runs in results.items()
    }
    print(f"\nmedian of {len(results['cached'])} runs of each, exact over cached")
    for name in names:
        cached, exact = medians["cached"][name], medians["exact"][name]
        print(f"  {name:<12} {exact:9,.1f} {cached:9,.1f}  ratio {exact / cached:.2f}")


if __name__ == "__main__":
    main()
