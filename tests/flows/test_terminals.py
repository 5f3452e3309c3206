"""The output of commands: texts of rows, files and labels are escaped for terminals and pages, and fit every encoding."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support.dataworld import SOURCES
from support.project import copy_project, params, set_up_project, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, write_jsonl

from flows import inference, load_model
from flows.cli import main
from flows.report.markdown import as_markdown
from flows.report.summary import read_summary
from flows.report.terminal import summary_page
from tasks.config import load_config
from tasks.curate import stage as curate
from tasks.ingest import stage as ingest
from tasks.lineage import diff, row_history, version_data
from tasks.lineage.drift import Drift
from tasks.lineage.drift_plot import draw_drift
from tasks.model_store.ledger import Entry
from tasks.model_store.ledger_chain import ChainNode
from tasks.runtime.console import VisibleConsole
from tasks.runtime.terminal_text import prepare_streams
from tasks.runtime.visible_text import printable, printable_json, printable_markdown
from tasks.tracking.glance import RegistryState
from tasks.validate import stage as validate

ACTS = "\x1b[2J\x1b]8;;http://evil.example\x1b\\go\x1b]8;;\x1b\\\x9b31m\u202eevil\u2066\u2028\x07\x08\r"
MARKUP = "[bold red]x[/] [link=http://evil.example]y[/link] [/nope]"
PAGE = "<script>alert(1)</script> ![i](http://evil.example/i.png) | `c`"
STAYS = "城市👩\u200d👩\u200d👧 e\u0301 مرحبا"
HOSTILE = f"{ACTS} {MARKUP} {PAGE} {STAYS}"
RAW = "\x1b\x9b\u202e\u2066\u2028\x07\x08\r"
FILE = "qa-\x1b]0;title\x07[bold]\u202e城.jsonl"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with hostile rows, one of them refused, of a file with a hostile name."""
    root = tmp_path_factory.mktemp("hostile") / "project"
    with pytest.MonkeyPatch.context() as patch:
        set_up_project(root)
        patch.chdir(root)
        make_tiny_gpt2(root / "base")
        rows = [
            {"instruction": f"{HOSTILE} {number}", "input": "", "output": f"{HOSTILE} {number}"} for number in range(3)
        ]
        write_jsonl(
            root / "inbox" / FILE, [*qa_records(40), *rows, {"instruction": HOSTILE, "input": "", "output": ""}]
        )
        write_params(root, params("base", SOURCES[1:]))
        config = load_config()
        ingest.run(config)
        validate.run(config)
        curate.run(config)
    return root


@pytest.fixture
def hostile(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = copy_project(template, tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "2000")
    facts: dict[str, Any] = {"weights_digest": "d" * 64, "receipt": "r", "verdict": "v", "dataset": "x", "passed": True}
    more = {"test_epoch": 1, "test_rows": 9, "who": HOSTILE, "when": "2026-01-01T00:00:00Z", "why": HOSTILE}
    entries = [Entry(kind=kind, version=1, **facts, **more) for kind in ("judged", "promoted")]  # type: ignore[arg-type]
    for module in ("tasks.model_store.ledger", "flows.report.summary", "flows.promotion_decision"):
        monkeypatch.setattr(f"{module}.read_ledger", lambda _: entries)
    chain = [ChainNode("c" * 40, entry) for entry in entries]
    monkeypatch.setattr("tasks.model_store.serving.read_verified", lambda _: chain)
    monkeypatch.setattr("tasks.model_store.serving.glance", lambda _: RegistryState(problem=HOSTILE))
    for module in (version_data, row_history):
        monkeypatch.setattr(module, "registered_versions", lambda model: [])
    monkeypatch.setattr(load_model, "load_model", lambda *_, **__: load_model.LoadedModel("base", None, None))
    monkeypatch.setattr(inference, "stream_answer", lambda *_: iter([HOSTILE[:30], HOSTILE[30:]]))
    monkeypatch.setattr(diff, "difference", _difference)
    return folder


def _difference(*_: str) -> diff.Difference:
    row = {"row_id": "a" * 32, "family": "qa", "source": "qa", "instruction": HOSTILE, "input": "", "split": "train"}
    difference = diff.Difference(0, 1)
    difference.added.add({**row, "output": MARKUP})
    return difference


def _a_row(where: str) -> str:
    from tasks.lineage.select_rows import select_rows

    return select_rows([], [where])[0]


COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "history": (["history"], [MARKUP, STAYS]),
    "status": (["status"], []),
    "why": (["rows", "why", "ROW"], [MARKUP, "\\x1b[2J", STAYS[:10]]),
    "audit of a row": (["audit", "--row", "ROW"], [MARKUP, "\\x1b[2J", STAYS[:10]]),
    "quarantine list": (["quarantine", "list"], ["\\x1b]0;title"]),
    "quarantine show": (["quarantine", "show", "REFUSED"], [MARKUP, "[bold]\\u202e城.jsonl"]),
    "quarantine export": (["quarantine", "export", "a[bold]\x1b.jsonl"], ["a[bold]\\x1b.jsonl"]),
    "batches": (["data", "batches"], []),
    "versions": (["data", "versions"], []),
    "diff": (["data", "diff", "v1", "v2"], ["\\x1b[2J", "[bold red]x[/]"]),
    "contract suggest": (["contract", "suggest"], []),
    "generate": (["generate", "hello"], [MARKUP, "\\x1b[2J", STAYS]),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_command_shows_hostile_text_and_lets_none_of_it_act(
    name: str, as_json: bool, hostile: Path, strop: Any
) -> None:
    arguments, expected = COMMANDS[name]
    ids = {"ROW": lambda: _a_row("output~evil"), "REFUSED": lambda: _refused(strop)}
    arguments = [ids[each]() if each in ids else each for each in arguments]
    code, out, err = strop(*arguments, *(["--json"] if as_json else []))
    assert code == 0, err
    assert [each for each in RAW if each in out + err] == []
    if as_json:
        json.loads(out)
    else:
        assert [each for each in expected if each not in out] == []


def _refused(strop: Any) -> str:
    return str(json.loads(strop("quarantine", "list", "--source", "qa", "--json")[1])["shown"][0]["row_id"])


def test_chat_shows_hostile_answers(hostile: Path, strop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["hello"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers, "/exit"))
    code, out, _ = strop("chat")
    assert code == 0
    assert MARKUP in out
    assert [each for each in RAW if each in out] == []


def test_ingestion_and_errors_show_hostile_file_names(hostile: Path, strop: Any, capsys: Any) -> None:
    (hostile / "inbox" / f"{FILE}.gz").write_bytes(b"no gzip at all")
    ingest.run(load_config())
    output = "".join(capsys.readouterr())
    assert "damaged_archive" in output
    assert "\\x1b]0;title" in output
    code, out, err = strop("quarantine", "export", f"{ACTS}.txt")
    assert code == 1
    assert "\\x1b[2J" in err
    assert [each for each in RAW if each in output + out + err] == []


def test_the_summary_and_its_page_show_hostile_rows(hostile: Path) -> None:
    from flows.outcome import Outcome
    from flows.report.sample_answers import Answers

    answers = [
        Answers("qa", HOSTILE, HOSTILE, {"base": HOSTILE, "candidate": HOSTILE}, {"base": 0.0, "candidate": 1.0})
    ]
    summary = read_summary(load_config())
    summary = type(summary)(**{**vars(summary), "answers": answers})
    out = io.StringIO()
    VisibleConsole(file=out, width=3000, force_terminal=True).print(summary_page(summary))
    assert "[bold red]x" in out.getvalue()
    assert "evil.example\x1b\\" not in out.getvalue()
    assert [each for each in RAW if each in out.getvalue().replace("\x1b[", "")] == []
    assert "\x1b[2J" not in out.getvalue()
    page = as_markdown(summary, Outcome("promoted", 1, 1))
    assert [each for each in (*RAW, "<script>", "![i]", "](http") if each in page] == []
    assert "城市" in page


def test_a_plot_of_hostile_labels_is_a_picture_and_nothing_else(tmp_path: Path) -> None:
    from tasks.evaluate.class_report import report_classes
    from tasks.evaluate.plots import _save, _styled, draw_confusion

    labels = [HOSTILE[at : at + 24] for at in range(0, len(HOSTILE), 24)]
    with _styled():
        path = _save(draw_confusion("topic", report_classes(labels, labels)), tmp_path / "confusion.svg")
    kinds = {each.tag.rpartition("}")[2] for each in ElementTree.parse(path).iter()}
    assert "script" not in kinds
    assert "text" in kinds


def test_a_picture_of_hostile_words_is_one(tmp_path: Path) -> None:
    drift = Drift("qa", "word", 0.3, 0.1, 0.0, {HOSTILE[:9]: 0.5, PAGE: 0.5}, {HOSTILE[:9]: 0.1, PAGE: 0.9})
    draw_drift([drift], (HOSTILE, "now"), tmp_path / "drift.svg")
    assert ElementTree.parse(tmp_path / "drift.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\x9b"),
        ("a\r\nb", "a\\x0d\nb"),
        ("\u202eabc\u2066\u200f", "\\u202eabc\\u2066\\u200f"),
        ("ad\u200bmin\ufeff\u2060", "ad\\u200bmin\\ufeff\\u2060"),
        ("\U000e0041", "\\U000e0041"),
        ("می\u200cخواهم \U0001f469\u200d\U0001f4bb", "می\u200cخواهم \U0001f469\u200d\U0001f4bb"),
        (STAYS, STAYS),
        ("a\nb\tc", "a\nb\tc"),
    ],
)
def test_what_acts_is_visible_and_what_is_text_stays(text: str, expected: str) -> None:
    assert printable(text) == expected
    assert json.loads(printable_json(json.dumps(text, ensure_ascii=False))) == text
    assert printable(printable(text)) == printable(text)


def test_what_nobody_would_see_is_visible() -> None:
    for unseen in "\xad\u115f\u1160\u180e\u200b\u2060\u206a\u206f\u3164\ufeff\uffa0\ufff9\U000e0041":
        assert printable(f"a{unseen}b").isascii()


def test_markdown_of_a_text_is_its_text() -> None:
    assert printable_markdown("[a](b) <i>*c*</i> | d\n城") == (
        "&#91;a&#93;(b) &#60;i&#62;&#42;c&#42;&#60;/i&#62; &#124; d 城"
    )


def test_whatever_is_printed_in_a_process_of_ours_is_visible() -> None:
    code = (
        "from tasks.runtime.terminal_text import prepare_streams; prepare_streams(); import sys, logging;"
        f"print({ACTS!r}); logging.warning({ACTS!r}); raise ValueError({ACTS!r} + 'postgresql://li:other33@db/x')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    output = (done.stdout + done.stderr).decode()
    assert "\\x1b[2J" in output
    assert "other33" not in output
    assert "Traceback" in output
    assert [each for each in RAW if each in output] == []


class _Terminal:
    """Standard output and error of an encoding, as a process of ours has them."""

    def __init__(self, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoding = encoding
        self.streams = {"stdout": io.BytesIO(), "stderr": io.BytesIO()}
        for name, stream in self.streams.items():
            monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding, write_through=True))
        prepare_streams()

    def run(self, *arguments: str) -> tuple[int, str]:
        for stream in self.streams.values():
            stream.seek(0)
            stream.truncate()
        code = main.run(list(arguments))
        return code, self.text("stdout")

    def text(self, name: str) -> str:
        return self.streams[name].getvalue().decode(self.encoding)


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "ascii"])
def test_every_command_works_in_terminals_of_other_encodings(
    encoding: str, hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, row = _first_refused(), _a_row("output~evil")
    with monkeypatch.context() as patch:
        terminal = _Terminal(encoding, patch)
        for name, (arguments, _) in COMMANDS.items():
            line = [{"REFUSED": refused, "ROW": row}.get(each, each) for each in arguments]
            for form in ([], ["--json"]) if name != "quarantine export" else ([],):
                code, out = terminal.run(*line, *form)
                printed = out + terminal.text("stderr")
                assert (code, [each for each in RAW if each in printed]) == (0, []), (line, printed)
                if form:
                    json.loads(out)
        out = terminal.run("rows", "why", row)[1]
        assert ("城市" if encoding == "gbk" else "\\u57ce\\u5e02") in out
        assert "·" in out if encoding != "ascii" else " - held out by" in out
        assert json.loads(terminal.run("rows", "why", row, "--json")[1])["content"]["output"].endswith("مرحبا 0")
        for line in (["--help"], ["config"], ["run", "--nonsense"], ["quarantine", "show", "城市"]):
            assert terminal.run(*line)[0] in (0, 1, 2)


def _first_refused() -> str:
    from flows.cli.quarantine_query import RowQuery, read_refused

    return str(read_refused(RowQuery(source="qa")).to_pylist()[0]["row_id"])


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "gbk"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}], ids=str
)
def test_a_process_starts_and_ends_well_in_such_a_terminal(locale: dict[str, str], hostile: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "status"], env=os.environ | locale, capture_output=True, check=False
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"Next commands" in done.stdout


def test_a_closed_pipe_causes_no_traceback(hostile: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    for line, closed, other in (
        ("flows.cli.main data batches", "stdout", "stderr"),
        ("tasks validate", "stderr", "stdout"),
    ):
        streams: dict[str, Any] = {closed: theirs, other: subprocess.PIPE}
        done = subprocess.run([sys.executable, "-m", *line.split()], check=False, **streams)
        assert (done.returncode, getattr(done, other)) == (0, b"")
    os.close(theirs)


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_new_files_follow_the_umask(umask: int, rights: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    write_jsonl(Path("inbox/qa.jsonl"), [*qa_records(40), {"instruction": "nothing", "input": "", "output": ""}])
    make_tiny_gpt2(Path("base"))
    before = os.umask(umask)
    try:
        write_params(Path(), params("base", SOURCES[1:]))
        ingest.run(load_config())
        validate.run(load_config())
        curate.run(load_config())
        assert main.run(["quarantine", "export", "out.jsonl"]) == 0
    finally:
        os.umask(before)
    tops = ("data/raw", "data/validated", "data/curated", "data/quarantine", "data/reports", ".strop")
    # .strop/dvc is DVC's, and nobody else's at all: see test_secrets.py
    made = [p for top in tops for p in Path(top).rglob("*") if not p.is_relative_to(".strop/dvc")]
    files = [p for p in (*made, Path("out.jsonl"), Path("data/round.json"), Path("data/base.json")) if p.is_file()]
    assert len(files) > 10
    folders = [p for p in made if p.is_dir()]
    # 0444 is DVC's own, of files that are links into its cache
    assert {oct(p.stat().st_mode & 0o777): p for p in files if p.stat().st_mode & 0o777 not in (rights, 0o444)} == {}
    assert {oct(p.stat().st_mode & 0o777): p for p in folders if p.stat().st_mode & 0o777 != 0o777 & ~umask} == {}


@pytest.mark.parametrize(
    "line",
    [
        ["rows", "why", "\udcff" * 8],
        ["rows", "forget", "\udcff" * 8, "--why", "\udcff"],
        ["rows", "forget", "--where", "source=\udcff", "--why", "x", "--dry-run"],
        ["quarantine", "list", "--reason", "\udcff"],
        ["quarantine", "list", "--source", "\udcff"],
        ["quarantine", "drop", "\udcff" * 8, "--why", "\udcff"],
    ],
    ids=lambda line: " ".join(line[:3]).encode("ascii", "backslashreplace").decode(),
)
def test_bytes_that_the_terminals_encoding_cannot_read_are_text_all_the_same(
    line: list[str], hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        assert _Terminal("utf-8", patch).run(*line)[0] in (0, 1)


def test_a_prompt_in_a_terminal_of_another_encoding_is_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cli.common import as_text

    monkeypatch.setattr("os.fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    assert as_text("城市".encode().decode("ascii", "surrogateescape")) == "城市"
    assert as_text(["a", "\udcff"]) == ["a", "\ufffd"]
    assert as_text(None) is None
