"""The benchmarks of a public clone: what is missing is one line that says how to get it."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.gateway import SECRETS, make_gateway, served
from support.project import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"
LACKS = {
    "chat_template.py": [],
    "data.py": ["near"],
    "evaluate.py": [],
    "finetune.py": [],
    "finetune_llamafactory.py": [],
    "packing.py": [],
    "prepare.py": [],
    "shared_text.py": [],
    "serve.py": [],
    "render_memory.py": ["--base", "package:not_installed/model.gguf"],
}
"""Script → arguments with which it needs something that is not there."""
MAKES_ITS_OWN = {"audit.py", "canary.py", "flow_cost.py", "gate.py", "pii.py", "validate.py"}
"""Scripts whose rows and base are made on the spot, and that compare with libraries that Strop itself needs."""


def is_script(path: Path) -> bool:
    tests = [node.test for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    return any("__main__" in ast.unparse(test) for test in tests)


def test_every_benchmark_is_started_here() -> None:
    assert {path.name for path in FOLDER.glob("*.py") if is_script(path)} == LACKS.keys() | MAKES_ITS_OWN


@pytest.mark.parametrize("name", LACKS)
def test_a_benchmark_without_its_data_says_in_one_line_how_to_get_them(name: str, tmp_path: Path) -> None:
    if name == "data.py":  # datasketch may be installed: then it is not seen
        (tmp_path / "sitecustomize.py").write_text(HIDE)
    environment = os.environ | {"STROP_SHARED_DATA": str(tmp_path / "empty"), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(FOLDER / name), *LACKS[name]]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: ")
    if name != "finetune_llamafactory.py":
        assert ". Get it: " in line


def test_what_a_benchmark_replaces_in_the_product_exists() -> None:
    replaced = []
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        modules = {alias.name: f"{node.module}.{alias.name}" for node in imports for alias in node.names}
        targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
        for target in targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in modules:
                name = modules[target.value.id]
                if name.startswith(("tasks.", "flows.")):
                    replaced.append((path.name, name, target.attr))
    assert ("packing.py", "tasks.render.packing.packing", "PARTS") in replaced
    assert [each for each in replaced if not hasattr(importlib.import_module(each[1]), each[2])] == []


def test_both_validators_refuse_the_same_rows_of_a_small_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import validate_frame
    from validate import must_agree
    from validate_sides import judge_with_great_expectations, judge_with_strop

    monkeypatch.setattr(validate_frame, "POOL_CHARACTERS", 20_000)
    frame = tmp_path / "frame.parquet"
    validate_frame.write_frame(frame, 5_200)
    assert must_agree(judge_with_great_expectations(frame), judge_with_strop(frame, 1)) > 20


HIDE = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "datasketch" else find(name, *more)
"""


@pytest.mark.parametrize("option", ["--rows", "--llamafactory"])
def test_a_folder_that_is_named_but_not_there_is_reported_too(option: str, tmp_path: Path) -> None:
    for name in ("llamafactory/alpaca_en_demo.json", "banking77/train.csv"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_text("")
    environment = os.environ | {"STROP_SHARED_DATA": str(tmp_path / "data")}
    base = str(REPOSITORY)  # any folder: it is not opened
    command = [sys.executable, str(FOLDER / "finetune.py"), "--base", base, option, str(tmp_path / "nowhere")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert str(tmp_path / "nowhere") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_client_of_the_server_benchmark_reads_answers_and_streams_and_cancels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from serve_client import Client, ask_all

    gateway = make_gateway()
    with served(gateway) as running:
        client = Client(running.port, "toy", SECRETS["admin"])
        whole = client.ask("一 two three", 8)
        stream = client.stream("一 two three", 8)
        assert client.stream("一 two three", 8, pieces=1).tokens == 1
        replies, _ = ask_all([client, Client(running.port, "toy", SECRETS["admin"])], ["一 二", "three", "four"], 8)
        with pytest.raises(ConnectionError, match="401"):
            Client(running.port, "toy", "wrong").ask("one", 8)
    assert whole.text == stream.text == "一 two three"
    assert 0 < stream.first <= stream.seconds
    assert (whole.tokens, whole.prompt_tokens) == (4, 3)
    assert [reply.text for reply in replies] == ["一 二", "three", "four"]


def test_equal_tokens_of_two_answers_are_those_before_the_first_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from serve_peer import equal_tokens

    class Words:
        def encode(self, text: str, add_special_tokens: bool) -> list[str]:
            return text.split()

    assert equal_tokens("a b c", " a b c\n", Words()) == (3, 3)
    assert equal_tokens("a b c d", "a x c", Words()) == (1, 4)
    assert equal_tokens("a b", "a b c", Words()) == (2, 3)
    assert equal_tokens("", "", Words()) == (0, 0)


def test_libraries_print_no_warnings_in_a_benchmark() -> None:
    code = (
        "import measuring; measuring.quieten()\n"
        "import subprocess, sys, warnings\n"
        "warnings.warn('old', FutureWarning)\n"
        "from transformers.utils import logging\n"
        "logging.get_logger('transformers.x').warning('advice')\n"
        "subprocess.run([sys.executable, '-c', 'import warnings; warnings.warn(\"old\", FutureWarning)'], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(FOLDER)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.slow
def test_the_memory_of_render_is_measured_on_rows_that_render_takes(tiny_llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "render_memory.py", "--rows", "10001", "--base", tiny_llama],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10,001 rows" in done.stdout


def test_a_benchmark_can_make_a_project_without_the_environment_of_the_tests(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from measuring import toy_tools; toy_tools().set_up_project(Path(sys.argv[1]))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("STROP_TEST", "PYTEST"))}
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "project")],
        env=environment | {"PYTHONPATH": str(REPOSITORY / "benchmarks")}, check=True,
    )  # fmt: skip
    assert (tmp_path / "project/dvc.yaml").is_file()


def test_personal_data_are_found_and_nothing_else_in_a_labelled_sample() -> None:
    done = subprocess.run([sys.executable, FOLDER / "pii.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [line.split() for line in done.stdout.splitlines() if " precision " in line]
    assert len(kinds) == 7
    assert all(float(share) >= 0.97 for kind in kinds for share in (kind[2], kind[4])), done.stdout
