"""Fixtures: a project of its own in a temporary folder, and tiny base models made on the spot. Nothing is downloaded."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")  # before any of it is imported

from support.compiled import compile_for_workers  # noqa: E402
from support.once import begin_session  # noqa: E402
from support.project import set_up_project  # noqa: E402
from support.tiny_models import make_tiny_bert, make_tiny_gpt2, make_tiny_llama, make_tiny_tokenizer  # noqa: E402, F401 - the last for scripts outside

QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
    "OMP_NUM_THREADS": "1",  # tiny models: a second thread only waits, for ever on a busy machine
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.update(QUIET)
os.environ.pop("COLUMNS", None)  # pytest's workers set it to 80: tables are as wide as without them
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers take over that of the process that starts them
    os.environ["STROP_CACHE"] = tempfile.mkdtemp(prefix="strop-cache-")
    atexit.register(shutil.rmtree, os.environ["STROP_CACHE"], ignore_errors=True)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell starts `make test &` so; what the tests start inherits it, and those that press Ctrl-C would wait in vain
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers are started, which take the session's folder over."""
    if not hasattr(config, "workerinput"):
        begin_session()
        if config.getoption("numprocesses", None):
            compile_for_workers(config)


WHOLE = {"make_project", "project", "strop", "tiny_bert", "tiny_gpt2", "tiny_llama", "tmp_path_factory", "warm"}
"""Fixtures of tests that make a project, a model or a server: `make check` leaves them out."""
OF_PROJECTS = {
    "audit",
    "base",
    "build",
    "erase",
    "finetune",
    "flows",
    "inference",
    "promote",
    "register",
    "retention",
    "world",
}
"""Folders with hardly a test that makes none of these. `make check` does not import them, which takes seconds."""
THOROUGH = {
    *("test_agrees_with_great_expectations", "test_benchmarks", "test_bounded_jinja", "test_gate_statistics"),
    *("test_helpers", "test_import_closure", "test_linear", "test_logs", "test_masks", "test_memory", "test_packing"),
    "test_one_rendering",
    *("test_policy", "test_prompts", "test_quick", "test_scoring_methods", "test_secrets", "test_server_security"),
    *("test_serve_process", "test_slow_clients", "test_swap", "test_typed_markers"),
}
"""Files whose tests take seconds: statistics over many trials, texts made to be slow, every chat template. The same."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that make no project and take less than seconds")


def is_fast(item: pytest.Item) -> bool:
    return WHOLE.isdisjoint(getattr(item, "fixturenames", ()))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_left_out = collection_path.name in OF_PROJECTS or collection_path.stem in THOROUGH
    return True if config.getoption("--fast") and is_left_out else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What may take longest begins first, or the last worker would run it alone."""
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=[item for item in items if not is_fast(item)])
        items[:] = [item for item in items if is_fast(item)]
    limits = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("timeout"))}
    items.sort(key=lambda item: (-limits.get(item, 0), item.get_closest_marker("chaos") is None))


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """The variables that a command sets in this process end with the test: processes of later tests would inherit them."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def logs_on_stderr(own_environment: None) -> None:
    """Each test has the log of a process of ours, on standard error, at the usual level: also after a command with -v."""
    from tasks.runtime.logs.setup import FILE, FORMAT, LEVEL, set_up_logs

    for name in (FILE, FORMAT, LEVEL):
        os.environ.pop(name, None)
    set_up_logs()


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect() -> None:
    """What is imported stays: a training that has its garbage collected would look through half a million objects each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bert(tmp_path_factory.mktemp("base") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_gpt2(tmp_path_factory.mktemp("base") / "tiny-gpt2")


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """Makes a project folder below the test's own."""

    def make(name: str = "project") -> Path:
        set_up_project(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def project(make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that the test stands in."""
    root = make_project()
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def strop(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: (exit code, stdout, stderr)."""
    from flows.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what came before is not the command's
        code = main.run(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture(autouse=True)
def no_login_left() -> Iterator[None]:
    """A registry that was opened with a login leaves it in the environment, for MLflow, until another one is opened."""
    yield
    if "tasks.tracking.login" in sys.modules:
        sys.modules["tasks.tracking.login"].use_login("")


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """Stages and commands that these tests start are copies of a process that has the libraries imported (warm.py)."""
    from support.warm import warm_python

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(warm_python()))
        yield
