"""The structure holds: one door a tool, rooms that do not import each other, and dvc.yaml that knows what a stage needs."""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from support.code_graph import MODULES, STAGES, imports
from support.project import REPOSITORY

from flows.dvc_dependencies import with_dependencies
from tasks import paths
from tasks.runtime.import_closure import module_of

ROOMS = (
    *STAGES,
    "ingest",
    "build",
    "register",
    "promote",
    "audit",
    "reproduce",
    "lineage",
    "explain",
    "erase",
    "retention",
    "serve",
)
DVC: dict[str, Any] = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]
PACKAGES = (
    *("runtime", "vcs", "state", "workspace", "records", "dataset", "pii", "scoring", "expression"),
    *("chat", "base", "prompts", "inference", "model_store", "sandbox", "signing", "tracking", "feedback"),
)
"""What rooms share."""

DOORS = {
    "prefect": ("flows/",),
    "mlflow": ("tasks/tracking/",),
    "dvc": ("tasks/vcs/dvc_pipeline.py", "tasks/vcs/dvc_repo.py", "tasks/vcs/dvc_outputs.py", "tasks/erase/"),
    "dvc_data": ("tasks/vcs/dvc_outputs.py",),
    "great_expectations": ("tasks/validate/",),
}
"""Who may import a tool."""


def test_the_code_in_dvc_yaml_is_what_the_stages_import() -> None:
    text = (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8")
    assert with_dependencies(text) == text, "run: make docs"


def names_in(module: Path) -> set[str]:
    """Dotted names that a module imports, within functions and for type checkers too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((REPOSITORY / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def circles(graph: dict[Any, set[Any]]) -> list[set[Any]]:
    """Groups of nodes each of which leads to every other."""
    nodes = sorted(graph)
    number = {node: place for place, node in enumerate(nodes)}
    edges = [(number[node], number[other]) for node in nodes for other in graph[node] if other in number]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    matrix = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(nodes), len(nodes)))
    count, labels = connected_components(matrix, directed=True, connection="strong")
    groups = [{nodes[place] for place in np.flatnonzero(labels == label)} for label in range(count)]
    return [group for group in groups if len(group) > 1]


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {file for name in names_in(module) if (file := module_of(name))} - {module} for module in MODULES}
    assert circles(graph) == []


def test_the_packages_below_the_rooms_stack_one_way() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if module.parts[0] == "tasks" and len(module.parts) > 2 and module.parts[1] not in ROOMS:
            files = {file for name in names_in(module) if (file := module_of(name)) and len(file.parts) > 2}
            used = graph.setdefault(module.parts[1], set())
            used |= {file.parts[1] for file in files} - {module.parts[1], *ROOMS}
    assert set(graph) == set(PACKAGES)
    assert circles(graph) == []


@pytest.mark.parametrize("room", ROOMS)
def test_the_folders_of_a_room_stack_one_way(room: str) -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if module.parts[:2] == ("tasks", room) and len(module.parts) > 3:
            files = {
                file for name in names_in(module) if (file := module_of(name)) and file.parts[:2] == ("tasks", room)
            }
            used = graph.setdefault(module.parts[2], set())
            used |= {file.parts[2] for file in files if len(file.parts) > 3} - {module.parts[2]}
    assert circles(graph) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def test_former_paths_of_scripts_outside_still_work() -> None:
    from tasks.dataset import read_dataset
    from tasks.dataset.read import read_dataset as read
    from tasks.dataset.rendered import read_rendered
    from tasks.judging import judge_answer
    from tasks.rendered import read_rendered as former
    from tasks.scoring.score import score_answer as score

    assert (read_dataset, former, judge_answer) == (read, read_rendered, score)


def test_packages_hold_nothing_but_a_docstring_in_their_init() -> None:
    for module in MODULES:
        if module.name == "__init__.py" and module != Path("tasks/dataset/__init__.py"):
            body = ast.parse((REPOSITORY / module).read_text()).body
            assert all(isinstance(node, ast.Expr) for node in body), module


WRITES_TO_STREAMS = {
    "flows/preflight/process.py": "the problems as JSON, for the process that started it",
    "tasks/inference/supervise.py": "runs below a command, whose output goes to its log",
    "tasks/__main__.py": "prints its own help, which is a result",
    "tasks/runtime/logs/handlers.py": "the log itself",
    "tasks/sandbox/harness.py": "reports from within the sandbox, for the process that started it",
    "tasks/runtime/terminal_text.py": "wraps the streams",
}
"""Modules outside flows/cli that use standard output or standard error, with the reason. All others log."""


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[:2] != ("flows", "cli")], ids=str)
def test_modules_log_and_only_commands_print(module: Path) -> None:
    lines = printing_lines((REPOSITORY / module).read_text(encoding="utf-8"))
    assert (lines != []) == (module.as_posix() in WRITES_TO_STREAMS), (
        f"{module} prints in lines {lines}: use its logger"
    )


def printing_lines(code: str) -> list[int]:
    """Lines that call `print` or `console.print`, or use standard output, standard error or their descriptors."""
    lines = set()
    for node in ast.walk(ast.parse(code)):
        called = node.func if isinstance(node, ast.Call) else None
        prints = ast.unparse(called).rpartition(".")[2] if called else ""
        is_stream = isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr")
        is_descriptor = prints == "dup2" or (
            ast.unparse(called) == "os.write" and _is_stream_number(node) if called else False
        )
        if prints in ("print", "print_exc", "print_stack") or is_stream or is_descriptor:
            lines.add(node.lineno)  # type: ignore[attr-defined]
    return sorted(lines)


def _is_stream_number(call: ast.Call) -> bool:
    return ast.unparse(call.args[0]) in ("1", "2")


def test_prints_are_found() -> None:
    code = (
        "print(1)\nconsole.print(1)\nsys.stderr.write('x')\nos.dup2(2, 1)\nos.write(2, b'')\nx.pprint()\nlogger.info(1)"
    )
    assert printing_lines(code) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_each_tool_has_one_door(module: Path) -> None:
    for name in imports(module):
        allowed = DOORS.get(name.split(".")[0])
        if allowed is not None:
            assert str(module).startswith(allowed), f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] == "tasks" and m.parts[1] in ROOMS], ids=str)
def test_no_room_imports_another(module: Path) -> None:
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "tasks" and len(parts) > 1 and parts[1] in ROOMS:
            assert parts[1] == module.parts[1], f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] == "tasks"], ids=str)
def test_tasks_do_not_know_the_flows(module: Path) -> None:
    assert not [name for name in imports(module) if name.startswith("flows")]


def test_the_stages_of_dvc_are_the_rooms_and_their_sections() -> None:
    assert tuple(DVC) == STAGES
    for stage, entry in DVC.items():
        assert entry["cmd"] == f"python -m tasks {stage}"
        assert stage in entry["params"]
        assert (REPOSITORY / "tasks" / stage / "stage.py").is_file()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_no_section_of_params_that_dvc_does_not_know(stage: str) -> None:
    read = set()
    for module in (REPOSITORY / "tasks" / stage).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config":
                read.add(node.attr.rstrip("_"))
    from tasks.config import PipelineConfig

    sections = {field.alias or name for name, field in PipelineConfig.model_fields.items()}
    assert read & sections <= set(DVC[stage]["params"])


def outputs(entry: dict[str, Any]) -> list[str]:
    return [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]


def test_every_path_of_dvc_stands_in_paths() -> None:
    known = {str(value) for value in vars(paths).values() if isinstance(value, Path)}
    quarantines = {str(paths.QUARANTINE / stage) for stage in STAGES}
    contract = {str(paths.CONTRACT.parent)}
    for stage, entry in DVC.items():
        for path in [*outputs(entry), *(dep for dep in entry["deps"] if dep.startswith("data"))]:
            assert path in known | quarantines | contract, f"{stage}: {path}"


def test_no_two_stages_write_the_same() -> None:
    written = [path for entry in DVC.values() for path in outputs(entry)]
    assert len(written) == len(set(written))


def test_nothing_of_ours_shadows_a_library() -> None:
    assert not list((REPOSITORY / "mlflow").rglob("__init__.py"))
    assert not list((REPOSITORY / "data").rglob("__init__.py"))
    result = importlib.util.find_spec("mlflow")
    assert result is not None
    assert "site-packages" in str(result.origin)


def test_no_folder_at_the_root_is_named_like_a_library_that_it_would_shadow() -> None:
    folders = {p.name for p in REPOSITORY.iterdir() if (p / "__init__.py").is_file()}
    assert folders == {"flows", "tasks"}
    assert not folders & sys.stdlib_module_names


def test_importing_a_room_does_nothing_on_disk(tmp_path: Path) -> None:
    import subprocess

    code = "import tasks.config, tasks.ingest.stage, tasks.curate.stage, flows.cli.main"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_the_command_shows_its_help_without_heavy_libraries() -> None:
    import subprocess

    heavy = ("torch", "transformers", "mlflow", "prefect", "dvc", "great_expectations", "pandas", "datasets")
    code = f"import sys, flows.cli.main; print([m for m in {heavy!r} if m in sys.modules])"
    error = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert error.strip() == "[]"


def test_what_the_benchmarks_import_of_ours_is_there() -> None:
    missing = []
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and (file := module_of(node.module)):
                known = defined(file) | {each.stem for each in (REPOSITORY / file).parent.iterdir()}
                missing += [f"{path.name}: {node.module}.{a.name}" for a in node.names if a.name not in known]
    assert missing == []


def defined(module: Path) -> set[str]:
    """Names that stand at the top of a module."""
    result: set[str] = set()
    for node in ast.parse((REPOSITORY / module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            result.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            result.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            result.update(each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
    return result


PARTICIPLES = re.compile(r"\b(told|found|wanted|asked|said|sought)\b")


def test_no_participle_stands_as_a_name() -> None:
    for folder in ("flows", "tasks", "tests", "benchmarks"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if PARTICIPLES.search(text):
                nodes = list(ast.walk(ast.parse(text)))
                names = [node.id for node in nodes if isinstance(node, ast.Name)]
                names += [node.arg for node in nodes if isinstance(node, ast.arg)]
                names += [node.attr for node in nodes if isinstance(node, ast.Attribute)]
                names += [node.name or "" for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
                assert not [name for name in names if PARTICIPLES.fullmatch(name)], path


def test_pytest_enters_every_folder_with_tests(request: pytest.FixtureRequest) -> None:
    ignored = request.config.getini("norecursedirs")
    folders = {
        part for path in (REPOSITORY / "tests").rglob("test_*.py") for part in path.relative_to(REPOSITORY).parts[:-1]
    }
    assert not [(name, pattern) for name in folders for pattern in ignored if fnmatch.fnmatch(name, pattern)]
