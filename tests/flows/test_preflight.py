"""The checks before a run: every error of a project in one report, and nothing is changed."""

from __future__ import annotations

import json
import pickle
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants
from support.classes_plugin import classes_plugin
from support.project import params, write_params
from support.toy_rows import qa_records, topic_records, write_jsonl
from support.toyworld import git, users_view

from flows.preflight import process, remote_checks, time_limit
from flows.preflight.problem import Problem, error, warning
from flows.preflight.project import read_project
from flows.preflight.run import (
    NotReady,
    Report,
    check_project,
    load_ready_config,
    not_ready,
    ready_to_run,
    require_ready,
)
from flows.preflight.table import CHECKS, Check, run_check
from tasks import config
from tasks.base.pin import pin_base
from tasks.dataset.forms import FORMS, Form
from tasks.errors import StropError, TrainingError
from tasks.finetune.objective_table import OBJECTIVES, ObjectiveSpec
from tasks.finetune.work import Work
from tasks.records.shapes import SHAPES
from tasks.render.forms.forms import writer_of
from tasks.sandbox import run_programs

pytestmark = pytest.mark.usefixtures("warm")

QA = {"name": "qa", "path": "inbox/*.jsonl", "shape": "alpaca", "family": "qa"}


def write_project(
    root: Path, base: Path, sources: list[dict[str, Any]] | None = None, plugins: tuple[str, ...] = (), **sections: Any
) -> None:
    """A project with one source of questions, committed."""
    write_jsonl(root / "inbox/one.jsonl", qa_records(12))
    settings = params(base, [QA] if sources is None else sources, **sections)
    write_params(root, settings | {"plugins": list(plugins)} if plugins else settings)
    git("add", "-A", cwd=root)
    git("commit", "-q", "--allow-empty", "-m", "A project", cwd=root)


def problems(name: str | None = None) -> list[Problem]:
    return [problem for problem in check_project().problems if name in (None, problem.check)]


def line_with(path: Path, text: str) -> int:
    """The number of the first line that contains the text."""
    return next(n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if text in line)


def make_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE tickets (id INTEGER, prompt TEXT)")


def spoil(root: Path, base: Path) -> None:
    """Ten mistakes, each in another place."""
    make_database(root / "data.db")
    sources = [
        QA,
        {"name": "kefu", "path": "inbox/客服/*.csv", "shape": "alpaca", "family": "qa"},
        {
            "name": "tickets",
            "kind": "sql",
            "url": "sqlite:///data.db",
            "table": "tickts",
            "shape": "alpaca",
            "family": "qa",
        },
        {"name": "store", "path": "memory://${STROP_NO_SUCH_BUCKET}/a.jsonl", "shape": "alpaca", "family": "qa"},
    ]
    write_project(
        root, base, sources,
        gate={"alhpa": 0.05},
        finetune={"trainer": {"adam_bta2": 0.9}, "lora": {"target_modules": ["c_atn"]}},
        register={"tracking_uri": "http://127.0.0.1:9"},
    )  # fmt: skip
    (root / "data/contract/额外.yaml").write_text("families:\n  kefu:\n    max_output_segmnts: 3\n", encoding="utf-8")
    (root / "data/templates/问答.yaml").write_text("kind: qaa\n", encoding="utf-8")
    (root / "dvc.lock").write_text("<<<<<<< HEAD\nschema: '2.0'\n=======\nschema: '1.0'\n>>>>>>> other\n")


def test_ten_mistakes_in_ten_places_are_one_report(project: Path, tiny_gpt2: Path) -> None:
    spoil(project, tiny_gpt2)
    report = check_project()
    result = {(p.check, p.where): f"{p.what}. {p.fix}" for p in report.problems if p.severity == "error"}
    settings = project / "params.yaml"

    def at(text: str, setting: str) -> str:
        return f"params.yaml line {line_with(settings, text)}, {setting}"

    expected = {
        ("params", f"params.yaml line {line_with(settings, 'alhpa')}"): "did you mean `alpha`?",
        ("environment", at("STROP_NO_SUCH_BUCKET", "ingest.sources.3.path")): "export STROP_NO_SUCH_BUCKET=",
        ("dvc", "dvc.lock"): "damaged",
        ("contract", "data/contract/额外.yaml line 3"): "did you mean `max_output_segments`?",
        ("templates", "data/templates/问答.yaml"): "`kind` must be one of",
        ("sources", at("客服", "ingest.sources.1.path")): "no such file",
        ("sources", at("tickts", "ingest.sources.2.table")): "no such table: tickts",
        ("registry", "http://127.0.0.1:9"): "the registry cannot be reached (Connection refused)",
        ("trainer", at("adam_bta2", "finetune.trainer.adam_bta2")): "Nearest: adam_beta2",
        ("model", at("target_modules", "finetune.lora.target_modules")): "Name some of these (nearest: c_attn)",
    }
    missing = [
        (check, where, text)
        for (check, where), text in expected.items()
        if not any(c == check and str(w).startswith(where) and text in what for (c, w), what in result.items())
    ]
    assert missing == [], report.problems
    assert len(result) == 10, result
    skipped = {p.check: p.what for p in report.problems if p.severity == "skipped"}
    assert skipped == {
        "raw_data": "not checked: it needs check `dvc`",
        "formats": "not checked: it needs check `templates`",
        "further_tests": "not checked: it needs check `templates`",
        "gate_policy": "not checked: it needs section `gate`",
        "remote": "not checked: it needs check `dvc`",
    }


def test_a_run_with_errors_reports_all_of_them_and_changes_nothing(
    project: Path, tiny_gpt2: Path, strop: Callable[..., tuple[int, str, str]]
) -> None:
    spoil(project, tiny_gpt2)
    before = users_view()
    code, out, err = strop("run")
    assert (code, out) == (1, "")
    assert "The project cannot run: 32 checks, 10 errors, 0 warnings, 5 not checked." in err
    for text in ("`alpha`", "客服", "问答.yaml", "tickts", "adam_beta2", "c_attn", "127.0.0.1:9", "dvc.lock"):
        assert text in err
    assert err.rstrip().endswith("Fix them, then check again: strop check")
    assert users_view() == before
    assert not (project / "data/raw").exists()
    assert strop("check")[0] == 1
    assert users_view() == before


def test_the_command_prints_a_table_or_json(
    project: Path, tiny_gpt2: Path, strop: Callable[..., tuple[int, str, str]]
) -> None:
    write_project(project, tiny_gpt2)
    code, out, _ = strop("check")
    assert (code, out.strip()) == (0, "The project is ready to run: 32 checks, 0 errors, 0 warnings.")
    write_params(project, params(tiny_gpt2, [{**QA, "path": "inbox/none.jsonl"}]))
    code, out, _ = strop("check", "--json")
    content = json.loads(out)
    assert (code, content["ok"]) == (1, False)
    assert content["problems"] == [
        {
            "severity": "error",
            "what": "no such file",
            "where": "params.yaml line 9, ingest.sources.0.path (source `qa`, path inbox/none.jsonl)",
            "fix": "Put the file there, or fix the path in params.yaml (section `ingest`)",
            "check": "sources",
        }
    ]
    assert strop("run") == (
        1,
        "",
        f"strop: {content['problems'][0]['where']}: no such file. {content['problems'][0]['fix']}\n",
    )
    out = " ".join(strop("check")[1].split())
    assert out.startswith("error sources params.yaml line 9, ingest.sources.0.path")
    assert "→ Put the file there" in out


def test_the_checks_of_the_training_run_again_only_if_their_inputs_change(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(project, tiny_gpt2)
    require_ready()
    started: list[Any] = []
    run = subprocess.run

    def counted(command: list[str], **options: Any) -> Any:
        started.extend(part for part in command if part == process.__name__)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    require_ready()
    write_params(project, params(tiny_gpt2, [QA], curate={"test_share": 0.3}, finetune={"seed": 5}))
    require_ready()
    assert started == []
    write_params(project, params(tiny_gpt2, [QA], finetune={"trainer": {"optim": "adamwx"}}))
    with pytest.raises(NotReady, match="adamwx"):
        require_ready()
    with pytest.raises(NotReady, match="adamwx"):
        require_ready()  # errors are not cached
    assert len(started) == 2


def test_a_flow_that_the_command_calls_does_not_check_again(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(project, tiny_gpt2)
    with ready_to_run():
        (project / "params.yaml").write_text("base: {}\n")
        require_ready()
    with pytest.raises(NotReady, match="`ingest` is missing"):
        require_ready()
    with pytest.raises(NotReady, match="`ingest` is missing"):
        load_ready_config()


def test_settings_are_read_once_for_all_checks(project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    load_yaml = config.load_yaml

    def counted(text: str, *arguments: Any) -> Any:
        reads.extend([text] if arguments else [])  # without, it is checked whether DVC can read it
        return load_yaml(text, *arguments)

    monkeypatch.setattr(config, "load_yaml", counted)
    write_project(project, tiny_gpt2)
    assert check_project().is_ready
    assert len(reads) == 1
    (project / "params.yaml").write_text("base: {}\n")
    reads.clear()
    with pytest.raises(NotReady, match="`ingest` is missing"):
        load_ready_config()
    assert len(reads) == 1


def test_warnings_are_logged_and_do_not_stop_a_run(
    project: Path, tiny_gpt2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_project(project, tiny_gpt2, finetune={"lora": {"target_modules": ["c_attn", "c_pro"]}})
    require_ready()
    (record,) = caplog.records
    assert record.getMessage() == (
        f"check: warning: params.yaml line {line_with(project / 'params.yaml', 'target_modules')}, finetune.lora.target_modules: "
        "no module of the base has the name `c_pro` (nearest: c_proj); it gets no adapter. Fix the name, or remove it"
    )


def test_a_check_that_fails_itself_is_a_problem_and_stops_nothing() -> None:
    def broken(project: Any) -> None:
        raise ZeroDivisionError("division by zero")

    (problem,) = run_check(Check(broken), None)  # type: ignore[arg-type]
    assert (problem.severity, problem.what) == ("warning", "could not be checked (ZeroDivisionError: division by zero)")


def test_the_report_survives_being_stored_by_a_server() -> None:
    report = Report((error("no such file", "params.yaml line 9", "Put it there"), warning("slow")))
    cause = pickle.loads(pickle.dumps(not_ready(report)))
    assert isinstance(cause, NotReady)
    assert "\n  params.yaml line 9: no such file. Put it there\n  warning: slow\n" in str(cause)


def test_every_check_is_in_the_table_once_and_needs_only_checks_above_it() -> None:
    from tasks.config import PipelineConfig

    known = {field.alias or name for name, field in PipelineConfig.model_fields.items()}
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for check in CHECKS:
        assert set(check.needs) <= known, check.name
        known.add(check.name)
        assert check.function.__doc__, check.name


def test_a_call_that_hangs_is_given_up() -> None:
    hangs = threading.Event()
    began = time.monotonic()
    first, second, third = time_limit.run_at_once([lambda: 1, hangs.wait, lambda: 1 / 0], seconds=0.2)
    assert time.monotonic() - began < 5
    assert first == 1
    assert isinstance(second, TimeoutError)
    assert isinstance(third, ZeroDivisionError)
    hangs.set()


def test_a_source_that_does_not_answer_is_a_warning(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(project, tiny_gpt2)
    hangs = threading.Event()
    monkeypatch.setattr(remote_checks, "_require", lambda source: hangs.wait())
    monkeypatch.setattr(remote_checks, "run_at_once", lambda calls: time_limit.run_at_once(calls, seconds=0.1))
    (problem,) = remote_checks.sources(read_project())
    assert (problem.severity, problem.where) == ("warning", "params.yaml line 9, ingest.sources.0.path")
    assert "did not answer" in problem.what
    hangs.set()


def test_valid_sources_are_checked_beside_an_invalid_one(project: Path, tiny_gpt2: Path) -> None:
    sources = [{**QA, "name": "A b"}, {**QA, "name": "lost", "path": "inbox/丢失.jsonl"}]
    write_project(project, tiny_gpt2, sources)
    result = {(p.check, p.what) for p in problems() if p.severity == "error" and p.check in ("params", "sources")}
    assert ("sources", "no such file") in result
    assert any(check == "params" and "ingest.sources.0.name" in what for check, what in result)


@pytest.mark.parametrize(
    ("finetune", "shape", "text"),
    [
        ({"objective": "dpo"}, "alpaca", "rows of the form `pairs`"),
        ({"objective": "kto", "micro_batch_rows": 2}, "alpaca", "rows of the form `judged`"),
        ({"objective": "classify"}, "alpaca", "this one is of kind qa"),
    ],
)
def test_an_objective_that_no_source_has_rows_for_is_an_error(
    project: Path, tiny_gpt2: Path, finetune: dict[str, Any], shape: str, text: str
) -> None:
    write_project(project, tiny_gpt2, [{**QA, "shape": shape}], finetune=finetune)
    (problem,) = run_check(next(check for check in CHECKS if check.name == "formats"), read_project())
    assert problem.severity == "error"
    assert text in problem.what


def test_an_entry_in_the_table_of_forms_is_known_to_objectives_and_checks(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMS, "spoken", Form("spoken", frozenset({"sharegpt"})))
    monkeypatch.setitem(OBJECTIVES._entries, "speak", ObjectiveSpec("speak", form="spoken"))
    write_project(project, tiny_gpt2, finetune={"objective": "speak"})
    (problem,) = run_check(next(check for check in CHECKS if check.name == "formats"), read_project())
    assert problem.what == "an objective needs rows of the form `spoken`, and no source has a shape with it"
    assert str(problem.fix).startswith("Add a source of shape sharegpt")


def test_every_form_has_a_writer_and_known_shapes() -> None:
    for name, form in FORMS.items():
        assert callable(writer_of(name).write)
        assert callable(writer_of(name).write_test)
        assert form.shapes is None or form.shapes <= set(SHAPES), name


def test_a_classifier_of_classified_texts_has_what_it_needs(project: Path, tiny_gpt2: Path) -> None:
    write_jsonl(project / "inbox/news.jsonl", topic_records(9))
    source = {"name": "news", "path": "inbox/news.jsonl", "shape": "text_label", "family": "topic"}
    write_project(project, tiny_gpt2, [source], finetune={"objective": "classify"})
    assert problems() == []


def test_a_classifier_of_a_kind_that_a_plugin_adds_has_what_it_needs(project: Path, tiny_gpt2: Path) -> None:
    write_jsonl(project / "inbox/news.jsonl", topic_records(9))
    source = {"name": "news", "path": "inbox/news.jsonl", "shape": "text_label", "family": "topic"}
    with classes_plugin("topic") as plugin:
        write_project(project, tiny_gpt2, [source, QA], (plugin,), finetune={"objective": "classify"})
        (problem,) = run_check(next(check for check in CHECKS if check.name == "formats"), read_project())
    assert problem.severity == "warning"
    assert problem.what == (
        "objective: classify trains on families of kind classification or stars, and this one is of kind qa"
    )


@pytest.mark.parametrize(
    ("finetune", "text"),
    [
        ({"objective": "sft", "trainer": {"optim": "adamwx"}}, "adamwx is not a valid OptimizerNames"),
        ({"objective": "dpo", "trainer": {"loss_weights": [1.0, 2.0]}}, "`loss_weights` must have the same length"),
        ({"objective": "orpo", "trainer": {"optim": "adamwx"}}, "adamwx is not a valid OptimizerNames"),
        (
            {"objective": "kto", "micro_batch_rows": 2, "trainer": {"pad_to_multiple_of": "八"}},
            "invalid literal for int() with base 10: '八'",
        ),
        ({"objective": "reward", "trainer": {"optim": "adamwx"}}, "adamwx is not a valid OptimizerNames"),
        (
            {"objective": "grpo", "trainer": {"vllm_importance_sampling_clip_min": 9.0}},
            "vllm_importance_sampling_clip_min (9.0) must be less than",
        ),
    ],
    ids=lambda value: value["objective"] if isinstance(value, dict) else "",
)
def test_values_that_the_class_of_the_arguments_rejects_are_reported_as_by_the_training(
    project: Path, tiny_gpt2: Path, finetune: dict[str, Any], text: str
) -> None:
    from tasks.finetune.config.trainer_arguments import training_arguments

    write_project(project, tiny_gpt2, finetune=finetune)
    current = read_project()
    assert current.base is not None
    (problem,) = run_check(next(check for check in CHECKS if check.name == "trainer"), current)
    assert problem.severity == "error"
    assert text in problem.what
    assert str(problem.where).endswith("finetune.trainer")
    with pytest.raises(TrainingError) as caught:
        training_arguments(Work(current.config.finetune, current.base, "fp32", Path("checkpoints")), 20, 5)
    assert caught.value.what == problem.what


def test_a_misspelled_family_in_the_contract_is_a_warning(project: Path, tiny_gpt2: Path) -> None:
    write_project(project, tiny_gpt2)
    (project / "data/contract/more.yaml").write_text("families: {sentimnt: {max_output_segments: 3}}\n")
    (problem,) = run_check(next(check for check in CHECKS if check.name == "contract"), read_project())
    assert (problem.severity, problem.where, problem.fix) == (
        "warning",
        "data/contract, families.sentimnt",
        "Did you mean `sentiment`?",
    )


def test_teacher_and_reward_model_are_checked_before_anything_is_collected(project: Path, tiny_gpt2: Path) -> None:
    grpo = {
        "objective": "grpo",
        "grpo": {"rewards": [{"kind": "model", "model": str(tiny_gpt2)}, {"kind": "model", "model": "7"}]},
    }
    distill = {"objective": "distill", "distill": {"teacher": "老师"}}
    write_project(project, tiny_gpt2, finetune={**grpo, "before": [distill]})
    result = {p.check: f"{p.where}: {p.what}" for p in problems() if p.check == "teacher"}
    assert (
        "finetune.before.0.distill.teacher: there is neither a folder 老师 nor a version 老师 of tiny"
        in result["teacher"]
    )
    rewards = [f"{p.where}: {p.what}" for p in problems("reward_model")]
    assert len(rewards) == 2
    assert f"finetune.grpo.rewards.0: {tiny_gpt2} holds no reward model" in rewards[0]
    assert "finetune.grpo.rewards.1: there is neither a folder 7" in rewards[1]


def test_an_encoder_is_checked_before_anything_is_collected(project: Path, tiny_gpt2: Path, tiny_bert: Path) -> None:
    write_project(project, tiny_gpt2, evaluate={"encoder": "./没有"})
    (result,) = problems("encoder")
    assert (result.severity, result.what) == ("error", "./没有 is no folder of a model")
    assert str(result.where).endswith("evaluate.encoder")
    write_project(project, tiny_gpt2, evaluate={"encoder": str(tiny_bert)})
    assert problems("encoder") == []


def test_code_that_cannot_be_isolated_is_found_before_anything_is_collected(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_programs, "find_bubblewrap", lambda: None)
    write_project(project, tiny_gpt2)
    assert problems("code_execution") == []
    grpo = {"objective": "grpo", "grpo": {"rewards": [{"kind": "tests"}]}}
    write_project(project, tiny_gpt2, evaluate={"code": {"execute": True}}, finetune=grpo)
    result = problems("code_execution")
    assert {problem.severity for problem in result} == {"error"}
    assert [str(problem.where).split(", ")[1] for problem in result] == [
        "evaluate.code.execute",
        "finetune.grpo.rewards",
    ]
    assert "answers cannot be isolated on this machine, so they are not executed" in result[0].what
    assert str(result[0].fix).startswith("Install bubblewrap")


def test_a_base_from_scratch_is_no_error_before_its_first_rows(project: Path) -> None:
    write_project(project, Path("scratch"), finetune={"trainer": {"adam_beta2": 0.9}})
    report = check_project()
    assert report.is_ready
    assert [(p.severity, p.check, p.what) for p in report.problems] == [
        ("skipped", "base", "not on this disk yet: it is created from the first rows, or downloaded by the run"),
        ("skipped", "model", "not checked: it needs check `base`"),
        ("skipped", "teacher", "not checked: it needs check `base`"),
    ]


HUB_ID = "team/model"
COMMIT = "a" * 40


@pytest.fixture
def hub_cache(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Copies files into the local cache of the model hub, as of its only commit; returns their folder."""
    repository = project.parent / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(repository.parent))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(repository.parent))
    repository.parent.mkdir()

    def add(base: Path, *names: str) -> Path:
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True, exist_ok=True)
        for name in names or [path.name for path in base.iterdir()]:
            shutil.copy2(base / name, snapshot / name)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs/main").write_text(COMMIT)
        return snapshot

    return add


def base_problem() -> Problem:
    (problem,) = run_check(next(check for check in CHECKS if check.name == "base"), read_project())
    return problem


def error_of_run() -> StropError:
    with pytest.raises(StropError) as caught:
        pin_base(read_project().config.base)
    return caught.value


@pytest.mark.parametrize("names", [(), ("config.json",)], ids=["nothing", "configuration"])
@pytest.mark.parametrize("is_pinned", [True, False])
def test_a_base_of_the_hub_that_is_not_on_this_disk_is_an_error_where_nothing_is_downloaded(
    project: Path, tiny_gpt2: Path, hub_cache: Callable[..., Path], is_pinned: bool, names: tuple[str, ...]
) -> None:
    write_project(project, Path(HUB_ID))
    if is_pinned:
        snapshot = hub_cache(tiny_gpt2)
        pin_base(read_project().config.base)
        shutil.rmtree(snapshot)
    if names:
        hub_cache(tiny_gpt2, *names)
    problem, cause = base_problem(), error_of_run()
    assert problem.severity == "error"
    assert (problem.what, problem.where, problem.fix) == (cause.what, cause.where, cause.fix)


def test_a_check_downloads_nothing(
    project: Path, tiny_gpt2: Path, hub_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(project, Path(HUB_ID))
    snapshot = hub_cache(tiny_gpt2)
    pin_base(read_project().config.base)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a request to the hub")

    monkeypatch.setattr(HfApi, "list_repo_tree", refuse)
    monkeypatch.setattr(HfApi, "repo_info", refuse)
    assert problems("base") == []
    (snapshot / "model.safetensors").unlink()
    problem = base_problem()
    assert (problem.severity, problem.what) == (
        "skipped",
        "not on this disk yet: it is created from the first rows, or downloaded by the run",
    )


def test_a_missing_base_is_reported_once_beside_the_fields_of_the_trainer(project: Path) -> None:
    write_project(project, project / "没有模型", finetune={"trainer": {"adam_bta2": 0.9}})
    result = [(p.check, p.what) for p in problems() if p.severity == "error"]
    assert [check for check, _ in result] == ["base", "trainer"]
    assert result[0][1] == "no such folder or GGUF file"


def test_a_champion_of_another_base_or_kind_is_an_error_by_its_receipt_alone(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.ingest import resolve_training_start as start

    write_project(project, tiny_gpt2)
    current = read_project()
    receipt: dict[str, Any] = {"base": {"id": "old", "digest": current.base_digest}, "training": {"objective": "sft"}}
    monkeypatch.setattr(start, "version_receipt", lambda model, version: receipt)
    start.require_comparable_version(3, current.base_digest, current.config)
    with pytest.raises(
        StropError, match=r"champion \(version 3\) was trained from another base, a former state of old"
    ):
        start.require_comparable_version(3, "another", current.config)
    receipt["training"]["objective"] = "classify"
    with pytest.raises(StropError, match=r"champion \(version 3\) classifies, and the candidate generates"):
        start.require_comparable_version(3, current.base_digest, current.config)


class RefusingServer(BaseHTTPRequestHandler):
    """An MLflow server that lets this login read, and not write."""

    def do_GET(self) -> None:
        self._answer(200, {"experiment": {"experiment_id": "7", "lifecycle_stage": "active"}})

    def do_POST(self) -> None:
        self._answer(403, {"error_code": "PERMISSION_DENIED", "message": "Permission denied"})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def read_only_registry() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), RefusingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_login_that_may_not_write_to_the_registry_is_an_error(
    project: Path, tiny_gpt2: Path, read_only_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.tracking.access import require_registry

    write_project(project, tiny_gpt2, register={"tracking_uri": f"http://{read_only_registry}"})
    require_registry(read_project().config)  # without a login there is nothing to forbid
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret-of-reader")
    with pytest.raises(StropError, match=r"does not permit this \(403: Permission denied\)"):
        require_registry(read_project().config)


def test_a_remote_that_cannot_be_used_is_a_warning(project: Path, tiny_gpt2: Path) -> None:
    from support.toyworld import set_remote

    write_project(project, tiny_gpt2)
    remote = next(check for check in CHECKS if check.name == "remote")
    assert run_check(remote, read_project()) == []
    set_remote(project / "new" / "folder")
    assert run_check(remote, read_project()) == []
    set_remote(project / "params.yaml" / "folder")
    (problem,) = run_check(remote, read_project())
    assert problem.severity == "warning"
    assert "the DVC remote cannot be used" in problem.what


def test_a_tier_for_no_check_of_the_gate_is_reported_before_the_training(project: Path, tiny_gpt2: Path) -> None:
    write_project(project, tiny_gpt2, gate={"tiers": {"not_worst/qa": "advisory"}})
    (problem,) = problems("gate_policy")
    assert (problem.severity, problem.where) == ("error", "gate.tiers")
    assert "`not_worst/qa` is no check" in problem.what
    assert problem.fix == "Did you mean `not_worse`?"


def test_a_limit_on_what_is_never_measured_is_a_warning_before_the_training(project: Path, tiny_gpt2: Path) -> None:
    limits = {
        "cost.per_1000_answers": {"at_most": 1},
        "bias.names.gap": {"at_most": 0.1},
        "size.bytes": {"at_most": 9e9},
    }
    write_project(project, tiny_gpt2, gate={"limits": limits})
    result = problems("gate_policy")
    assert [(problem.severity, problem.fix) for problem in result] == [
        ("warning", "Set evaluate.latency_rows and evaluate.price_per_hour"),
        ("warning", "Set evaluate.probes"),
    ]
    assert result[1].what == "`bias.names.gap` is never measured, so its check fails: evaluate.probes is not set"


def test_a_misspelled_path_of_a_limit_is_an_error_before_the_training(project: Path, tiny_gpt2: Path) -> None:
    paths = (
        "robustness.typo.drop",
        "families.qaa.score",
        "families.qa.scores",
        "size.bytes",
        "forgetting.arc.acc.score",
    )
    write_project(project, tiny_gpt2, gate={"limits": {path: {"at_most": 1} for path in paths}})
    result = problems("gate_policy")
    assert [(problem.severity, problem.what, problem.fix) for problem in result] == [
        ("error", "`robustness.typo.drop`: `robustness` has no `typo`", "Did you mean `robustness.typos.drop`?"),
        ("error", "`families.qaa.score`: `families` has no `qaa`", "Did you mean `families.qa.score`?"),
        ("error", "`families.qa.scores`: `families.qa` has no `scores`", "Did you mean `families.qa.score`?"),
        ("warning", "`forgetting.arc.acc.score` is never measured, so its check fails: evaluate.lm_eval is not set",
         "Set evaluate.lm_eval"),
    ]  # fmt: skip
    assert all("params.yaml line" in problem.where for problem in result)


def test_a_whole_interval_of_a_number_without_rows_is_an_error_before_the_training(
    project: Path, tiny_gpt2: Path
) -> None:
    limits = {path: {"at_most": 1, "whole_interval": True} for path in ("size.bytes", "families.qa.score")}
    write_project(project, tiny_gpt2, gate={"limits": limits})
    (problem,) = problems("gate_policy")
    assert problem.severity == "error"
    assert problem.what == "`size.bytes` has no interval: there are no rows whose mean, share or count it is"


def test_an_invalid_condition_of_a_slice_is_reported_before_the_training(project: Path, tiny_gpt2: Path) -> None:
    write_project(project, tiny_gpt2, gate={"slices": ["language", {"name": "long", "where": "length(answer) > 200"}]})
    (problem,) = problems("gate_policy")
    assert (problem.severity, problem.where) == ("error", "gate.slices, long")
    assert "`answer` is not a column" in problem.what
