"""Fixtures: a project of its own in a temporary folder, and tiny base models made on the spot. Nothing is downloaded."""

from __future__ import annotations

import atexit
import compileall
import functools
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from once import begin_session, once

REPOSITORY = Path(__file__).resolve().parents[1]

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


WHOLE = {"make_project", "project", "strop", "tiny_bert", "tiny_gpt2", "tiny_llama", "tmp_path_factory", "warm"}
"""Fixtures of tests that make a project, a model or a server: `make check` leaves them out."""
THOROUGH = {
    *(
        "test_agrees_with_great_expectations",
        "test_benchmarks",
        "test_bounded_jinja",
        "test_gate_statistics",
        "test_linear",
    ),
    *(
        "test_masks",
        "test_memory",
        "test_packing",
        "test_policy",
        "test_quick",
        "test_server_security",
        "test_typed_markers",
    ),
}
"""Files whose tests take seconds each: statistics over many trials, texts made to be slow, every chat template. The same."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that make no project and take less than seconds")


def is_fast(item: pytest.Item) -> bool:
    return WHOLE.isdisjoint(getattr(item, "fixturenames", ())) and item.path.stem not in THOROUGH


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What may take longest begins first, or the last worker would run it alone."""
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=[item for item in items if not is_fast(item)])
        items[:] = [item for item in items if is_fast(item)]
    limits = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("timeout"))}
    items.sort(key=lambda item: (-limits.get(item, 0), item.get_closest_marker("chaos") is None))


SECTIONS = {
    "sport": ["match", "goal", "coach", "league", "striker"],
    "tech": ["software", "phone", "chip", "browser", "robot"],
    "business": ["shares", "profit", "bank", "merger", "market"],
}


def topic_records(count: int, start: int = 0) -> list[dict[str, str]]:
    """Toy articles whose section is plain from their words; no two are alike."""
    names = list(SECTIONS)
    records = []
    for number in range(start, start + count):
        section = names[number % len(names)]
        words = SECTIONS[section]
        text = f"The {words[number % 5]} and the {words[(number // 5) % 5]} made news today, report number {number}."
        records.append({"text": text, "label": section})
    return records


def qa_records(count: int, start: int = 0) -> list[dict[str, str]]:
    """Toy questions and answers, half of them Chinese."""
    records = []
    for number in range(start, start + count):
        if number % 2:
            records.append(
                {"instruction": f"第{number}个城市叫什么名字？", "input": "", "output": f"它叫城市{number}。"}
            )
        else:
            records.append(
                {"instruction": f"What is the name of city {number}?", "input": "", "output": f"City {number}."}
            )
    return records


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def make_tiny_tokenizer() -> Any:
    """A byte-level tokenizer of 400 tokens, trained on the toy rows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = [r["text"] + r["label"] for r in topic_records(30)] + [
        r["instruction"] + r["output"] for r in qa_records(10)
    ]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def make_tiny_gpt2(folder: Path) -> Path:
    """A GPT-2 of 2 layers with random weights; its tokenizer has no chat template."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    fast = make_tiny_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(fast), n_positions=512, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_tiny_llama(folder: Path) -> Path:
    """A Llama of 2 layers with random weights, grouped key and value heads, and a chat template of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = make_tiny_tokenizer()
    fast.chat_template = (REPOSITORY / "data/templates/chat/chatml.jinja").read_text(encoding="utf-8")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_tiny_bert(folder: Path) -> Path:
    """A BERT of 2 layers with random weights, of a body alone; its tokenizer writes [CLS] and [SEP], and has no end token."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    inner = make_tiny_tokenizer().backend_tokenizer
    marks = {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    inner.add_special_tokens(list(marks.values()))
    ends = [(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=128, **marks)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def logs_on_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has the log of a process of ours, on standard error, at the usual level: also after a command with -v."""
    from tasks.runtime.logs.setup import FILE, FORMAT, LEVEL, set_up_logs

    for name in (FILE, FORMAT, LEVEL):
        monkeypatch.delenv(name, raising=False)
    set_up_logs()
    yield
    for name in (FILE, FORMAT, LEVEL):
        os.environ.pop(name, None)


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


def set_up_project(root: Path) -> None:
    """Makes a project folder: our code, contract and templates, with git and DVC set up and one commit.

    The code is linked, not copied (that took a third of the time of many tests): a test that writes into it calls `own_code` first.
    """
    template = _project_template()
    edited = [str(file) for file, stat in _template_files().items() if _stat_of(file) != stat]
    assert not edited, f"a test wrote into {edited}, which all projects share: call own_code() first"
    shutil.copytree(template, root, copy_function=_link_code)


def own_code(root: Path) -> None:
    """Gives a project files of its own instead of links, for tests that write into its code."""
    for file in root.rglob("*.py"):
        stat, content = file.stat(), file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _link_code(source: str, target: str) -> None:
    if source.endswith((".py", ".pyc")) or "/.git/objects/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@functools.cache
def _template_files() -> dict[Path, tuple[int, int]]:
    return {file: _stat_of(file) for file in sorted(_project_template().rglob("*.py"))}


def _stat_of(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.cache
def _project_template() -> Path:
    """Made once: two thousand tests need a project."""
    return once("project", _make_project_template)


def _make_project_template(root: Path) -> None:
    for folder in ("flows", "tasks", "data/contract", "data/templates", "recipes"):
        if (REPOSITORY / folder).exists():
            shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dvc.yaml", "constraints.txt", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        if (REPOSITORY / file).exists():
            (root / file).parent.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / file, root / file)
    (root / "mlflow").mkdir()
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    commands = (
        ["init", "-q", "-b", "main", "--template="],
        ["add", "-A"],
        ["commit", "-q", "-m", "Start"],
        ["gc", "-q"],
    )
    for arguments in commands:
        subprocess.run([*git, *arguments], cwd=root, check=True)
    # what Python would write on a first import; it would do so in each project again
    compileall.compile_dir(root, quiet=2)


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


def params(base: Path | str, sources: list[dict[str, Any]], **sections: dict[str, Any]) -> dict[str, Any]:
    """The content of a params.yaml for a tiny model: small lengths, few steps."""
    config: dict[str, Any] = {
        "base": {"model": str(base)},
        "ingest": {"sources": sources},
        "validate": {"data_docs": False},
        "curate": {},
        "render": {"max_length_tokens": 128, "pack_length_tokens": 256},
        "finetune": {"learning_rate": 5e-3, "max_steps": 4, "lora": {"rank": 4}, "threads": 1},
        "evaluate": {"max_new_tokens": 8, "precision": "fp32"},  # the same bits on every machine
        "gate": {"min_rows": 5, "bootstrap_samples": 500},
        "register": {"model_name": "tiny"},
        "promote": {},
    }
    for name, values in sections.items():
        config[name] = {**config[name], **values}
    return config


def write_params(root: Path, config: dict[str, Any]) -> None:
    """JSON is YAML."""
    (root / "params.yaml").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def begin_round(config: Any) -> None:
    """What `ingest` does when a round begins, without git: the base is pinned, and what the trainings need is written down."""
    from tasks.base.pin import pin_base
    from tasks.state.training_start import Start, write_start

    pin_base(config.base)
    write_start(Start(config.finetune.forms()))


def toy_rows(topics: int = 40, questions: int = 20) -> list[dict[str, Any]]:
    """Rows (tasks.records.row.ROW_SCHEMA) as `validate` hands them on."""
    from tasks.records.row import row_id_of

    rows: list[dict[str, Any]] = []
    for record in topic_records(topics):
        rows.append({"family": "topic", "instruction": "", "input": record["text"], "output": record["label"]})
    for record in qa_records(questions):
        rows.append({"family": "qa", **record})
    for index, row in enumerate(rows):
        language = "zh" if "城市" in row["output"] else "en"
        row |= {
            "batch": "b1",
            "index": index,
            "source": "toy",
            "file": "toy.jsonl",
            "line": index + 1,
            "language": language,
        }
        row |= {"system": "", "history": "[]"}
        row["row_id"] = row_id_of(row)
    return rows


def write_part(rows: list[dict[str, Any]], name: str = "000001-b1.parquet") -> None:
    """A batch in data/raw and its part of data/validated, all rows accepted, in the current project.

    The batch is called as the part and the rows say; one of that name is replaced.
    """
    import pyarrow as pa

    from tasks.records.raw_batch import RAW_SCHEMA, record_digest
    from tasks.records.row import NO_TEXT, VERDICT_SCHEMA
    from tasks.runtime.files import canonical_json, file_digest, write_parquet
    from tasks.state.manifest import Batch, read_manifest, write_manifest

    ordinal, batch_id = name.removesuffix(".parquet").split("-")
    source = rows[0]["source"] if rows else "toy"
    records = []
    for row in rows:
        content = {key: row[key] for key in NO_TEXT if key in row}
        if row.get("synthetic"):
            content["strop_synthetic"] = {"recipe": row["synthetic"], "parents": []}
        record = canonical_json(content)
        place = {key: row[key] for key in ("file", "line", "family", "language")}
        reading = {"shape": "row", "columns": "{}", "use": row.get("use", "train")}
        records.append({"digest": record_digest(record, None), "record": record, **place, **reading})
    raw = Path("data/raw") / source / f"{batch_id}.parquet"
    write_parquet(raw, pa.Table.from_pylist(records, RAW_SCHEMA))
    batch = Batch(int(ordinal), batch_id, source, len(rows), file_digest(raw))
    others = [other for other in read_manifest() if other.batch != batch_id]
    write_manifest(sorted([*others, batch], key=lambda each: each.ordinal))
    verdicts = [{"index": index, "row_id": row["row_id"]} for index, row in enumerate(rows)]
    write_parquet(Path("data/validated") / name, pa.Table.from_pylist(verdicts, VERDICT_SCHEMA))


def commands_of(page: Path, start: str = "") -> list[str]:
    """The commands in a page's `sh` blocks that begin with `start`, without their comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(start) and line]


@pytest.fixture(autouse=True)
def no_login_left() -> Iterator[None]:
    """A registry that was opened with a login leaves it in the environment, for MLflow, until another one is opened."""
    yield
    if "tasks.tracking.login" in sys.modules:
        sys.modules["tasks.tracking.login"].use_login("")


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """Stages and commands that these tests start are copies of a process that has the libraries imported (warm.py)."""
    from warm import warm_python

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(warm_python()))
        yield
