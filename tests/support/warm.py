"""A `python` that has the heavy libraries imported already, for tests that start many stages and commands.

Importing torch, transformers, PEFT, MLflow or Great Expectations takes three to nine seconds of a core in every process. A server
imports them once a session, for all workers; stages (`python -m tasks ...`), the logging of models, and `strop` where its starter
sets `WARM_COMMAND`, are then copies of it (fork), in the folder, with the environment and the files of whoever starts them.
Prefect reads its settings again from that environment. Nothing of ours is imported before: the copy loads the code of its own
project. Any other command line is run by Python itself, and so are all of tests that kill processes: a copy is no child of its
starter.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from support.once import keep_running, once

LIBRARIES = (
    "torch",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "peft",
    "great_expectations",
    "mlflow.transformers",
    "datasets",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "sqlalchemy",
    "ruamel.yaml",
    "dvc.repo",
    "fastapi",
    "typer.rich_utils",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.pyfunc.loaders",
    "sklearn.base",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "dvc.scm",
    "networkx",
    "optuna",
    "rapidfuzz.distance",
    "tabulate",
    "transformers.trainer",
    "trl",
    "prefect",
)
ROUTED = ("tasks", "tasks.register.logged_model", "tasks.serve.engine.worker", "flows.preflight.process")
STROP = "flows.cli.main"
WARM_COMMAND = "STROP_TEST_WARM_COMMAND"
KILLED = 137
CLIENT = """#!{python} -ISu
import array, json, os, signal, socket, sys
arguments = sys.argv[1:]
routed = {routed!r} if os.environ.pop({variable!r}, "") == "" else {routed!r} + ({strop!r},)
module_arguments = arguments[1:] if arguments[:1] == ["-P"] else arguments
if module_arguments[:1] == ["-m"]:
    arguments = module_arguments
if arguments[:1] != ["-m"] or len(arguments) < 2 or arguments[1] not in routed:
    os.execv({python!r}, [{command!r}, *sys.argv[1:]])  # it takes itself for this command, and starts others by it
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
umask = os.umask(0)
request = {{"module": arguments[1], "arguments": arguments[2:], "folder": os.getcwd(), "umask": umask,
            "environment": dict(os.environ), "executable": sys.argv[0]}}
files = array.array("i", [0, 1, 2])
connection.sendmsg([json.dumps(request).encode() + b"\\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
answers = connection.makefile()
child = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(child, number))
sys.exit(int(answers.readline() or {killed}))
"""


@functools.cache
def warm_python() -> Path:
    """The command, in a folder with all others of the virtual environment."""
    return once("warm", _start) / "bin/python"


def _start(top: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "support.warm", str(top / "socket")], cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    keep_running(server, top)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the libraries could not be imported"
    _write_command(top, top / "bin/python")


def _write_command(top: Path, command: Path) -> None:
    folder = command.parent
    folder.mkdir()
    for other in Path(sys.executable).parent.iterdir():
        if other.name not in ("python", "python3"):
            (folder / other.name).symlink_to(other)
    (top / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copyfile(Path(sys.prefix) / "pyvenv.cfg", top / "pyvenv.cfg")
    made = {
        "python": sys.executable, "command": str(command), "address": str(top / "socket"), "killed": KILLED,
        "routed": ROUTED, "strop": STROP, "variable": WARM_COMMAND,
    }  # fmt: skip
    (folder / "python3").write_text(CLIENT.format(**made))
    (folder / "python3").chmod(0o755)
    command.symlink_to("python3")


def serve(address: str) -> None:
    """Imports the libraries, then answers each request with a copy of this process, until it is ended."""
    import importlib
    import threading

    for name in LIBRARIES:
        importlib.import_module(name)
    assert threading.active_count() == 1, f"a process with threads can not be copied: {threading.enumerate()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system clears ended copies away
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            os.setpgid(0, 0)
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Runs the module of a request as Python would, tells its process and then its exit status; does not return."""
    text, files, *_ = socket.recv_fds(connection, 65536, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(65536)
    request = json.loads(text)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    connection.sendall(f"{os.getpid()}\n".encode())
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    paths = [path for path in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [request["folder"], *paths]
    sys.executable = request["executable"]
    sys.argv = [request["module"], *request["arguments"]]
    sys.modules.pop("__main__")
    sys.modules["prefect.context"].refresh_global_settings_context()
    status = _run(request["module"])
    with contextlib.suppress(OSError):
        connection.sendall(f"{status}\n".encode())
    os._exit(status)


def _run(module: str) -> int:
    import runpy
    import threading
    import traceback

    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return status


if __name__ == "__main__":
    serve(sys.argv[1])
