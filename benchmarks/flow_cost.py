"""How many seconds the Prefect flow adds to the same rooms run without it. Run: .venv/bin/python benchmarks/flow_cost.py [RUNS]

Three variants of the same round on a tiny GPT-2 and 60 rows, run alternately, each time with another seed so that training,
evaluation, verdict and registration run again:

    plain    python -m tasks ingest, dvc repro, then register in a process of its own
    server   strop run, with a Prefect server running (PREFECT_API_URL)
    alone    strop run, without a running server

Prints seconds per run, medians, and the differences from `plain`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from measuring import REPOSITORY, quieten

sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

BIN = Path(sys.executable).parent
REGISTER = "from tasks.config import load_config; from tasks.register.stage import run; run(load_config())"
VARIANTS = ("plain", "server", "alone")


def main(runs: int = 5) -> None:
    quieten()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        environment.pop("PREFECT_API_URL", None)
        make_project(root)
        url, server = start_server(root, environment)
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        try:
            for run in range(-1, runs):  # -1 is the warm-up run
                for number, variant in enumerate(VARIANTS):
                    set_seed(root, 100 + 10 * run + number)
                    elapsed = run_once(variant, root, environment, url)
                    print(f"run {run}: {variant:<7}{elapsed:6.1f} s", flush=True)
                    if run >= 0:
                        seconds[variant].append(elapsed)
        finally:
            server.terminate()
            server.wait()
    medians = {variant: statistics.median(times) for variant, times in seconds.items()}
    print("\nmedian of", runs)
    for variant in VARIANTS:
        print(
            f"  {variant:<7}{medians[variant]:6.1f} s   more than plain {medians[variant] - medians['plain']:+6.1f} s"
        )


def make_project(root: Path) -> None:
    """Makes a small project with a tiny base, and commits it."""
    from support.project import params, write_params
    from support.tiny_models import make_tiny_gpt2
    from support.toy_rows import qa_records, topic_records, write_jsonl

    from flows.demo.project import make_project as copy_code

    copy_code(REPOSITORY, root)
    make_tiny_gpt2(root / "base")
    write_jsonl(root / "inbox/topic.jsonl", topic_records(40))
    write_jsonl(root / "inbox/qa.jsonl", qa_records(20))
    topic = {"name": "topic", "path": "inbox/topic*", "shape": "text_label", "family": "topic"}
    qa = {"name": "qa", "path": "inbox/qa*", "shape": "alpaca", "family": "qa"}
    write_params(root, params("base", [topic, qa]))


def set_seed(root: Path, seed: int) -> None:
    path = root / "params.yaml"
    config = json.loads(path.read_text())
    config["finetune"]["seed"] = seed
    path.write_text(json.dumps(config, indent=2))


def run_once(variant: str, root: Path, environment: dict[str, str], url: str) -> float:
    """Seconds of one round."""
    commands = {
        "plain": [
            [sys.executable, "-m", "tasks", "ingest"],
            [str(BIN / "dvc"), "repro", "-q"],
            [sys.executable, "-c", REGISTER],
        ],
    }.get(variant, [[str(BIN / "strop"), "run"]])
    environment = environment | ({"PREFECT_API_URL": url} if variant == "server" else {})
    start = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):  # 3: the gate refused, which is a result
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - start


def start_server(root: Path, environment: dict[str, str]) -> tuple[str, subprocess.Popen[bytes]]:
    port = free_port()
    home = environment | {"PREFECT_HOME": str(root / ".prefect-server"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, env=home, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/api"
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return url, server
        except OSError:
            time.sleep(0.5)
    server.terminate()
    sys.exit("the Prefect server did not start")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
