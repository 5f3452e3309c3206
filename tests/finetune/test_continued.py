"""Training that starts from trained weights: the champion's with a share of its rows, or those of an earlier training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.project import params, write_params
from support.toy_rows import qa_records, write_part
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.base.load import is_adapter, load_base, load_trained
from tasks.base.pin import read_base
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import read_rendered
from tasks.errors import TrainingError
from tasks.finetune import stage
from tasks.model_store.versions import keep_weights
from tasks.records.row import row_id_of
from tasks.render.stage import run as render
from tasks.runtime.files import read_json
from tasks.runtime.progress import Progress
from tasks.state.round import Champion
from tasks.state.training_start import Start, write_start


def new_rows(count: int = 20) -> list[dict[str, Any]]:
    rows = []
    for index, record in enumerate(qa_records(count, start=100)):
        language = "zh" if "城市" in record["output"] else "en"
        row = {"family": "qa", **record, "batch": "b2", "index": index, "source": "more", "file": "more.jsonl"}
        row |= {"line": index + 1, "language": language, "system": "", "history": "[]"}
        rows.append({**row, "row_id": row_id_of(row)})
    return rows


def continue_training(project: Path, base: Path, share: float = 0.2, **settings: Any) -> PipelineConfig:
    """The last model becomes the champion, a new batch is ingested, and the round starts."""
    write_start(Start(("answers",), Champion(1, keep_weights(paths.MODEL), ("b1",)), share))
    write_part(new_rows(), "000002-b2.parquet")
    finetune = {"precision": "fp32", "continue_from": "champion", **settings}
    write_params(project, params(base, [], finetune=finetune))
    config = load_config()
    curate(config)
    render(config)
    return config


def trained_ids() -> set[str]:
    return {row_id.decode() for row_id in read_rendered("train").ids.tolist()}


def test_it_trains_on_all_new_rows_and_a_share_of_the_old_ones(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama))
    old = trained_ids()
    continue_training(project, tiny_llama)
    now, new = trained_ids(), {row["row_id"] for row in new_rows()}
    assert len(now & new) > 8
    assert 0 < len(now & old) < 0.5 * len(old)
    assert now <= old | new
    counts = read_json(paths.RENDER_REPORT)["replayed"]
    assert counts == {"new": len(now & new), "known": len(now & old)}


def test_a_larger_share_replays_what_a_smaller_one_did_and_more(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama))
    shares = []
    for share in (0.0, 0.2, 0.6, 1.0):
        continue_training(project, tiny_llama, share)
        shares.append(trained_ids())
    assert all(fewer < more for fewer, more in itertools.pairwise(shares))


def test_training_continues_the_adapter_of_the_champion(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama, max_steps=20))
    before = load_file(paths.MODEL / "adapter_model.safetensors")
    stage.run(continue_training(project, tiny_llama, learning_rate=1e-6, max_steps=1))
    after = load_file(paths.MODEL / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "other",
    [
        {"lora": {"rank": 8}},
        {"lora": {"rank": 4, "alpha": 16}},
        {"lora": {"rank": 4, "target_modules": ["q_proj"]}},
        {"method": "dora"},
    ],
    ids=["rank", "alpha", "modules", "dora"],
)
def test_an_adapter_of_another_shape_is_merged_and_a_new_one_is_trained(
    other: dict[str, Any], project: Path, tiny_llama: Path
) -> None:
    stage.run(prepare(project, tiny_llama, max_steps=20))
    champion = load_trained(paths.MODEL, read_base())
    stage.run(continue_training(project, tiny_llama, **{"lora": {"rank": 4}, **other}, learning_rate=1e-6, max_steps=1))
    assert not is_adapter(paths.MODEL)
    ids = torch.tensor([[5, 6, 7, 8]])
    actual, expected = (each(input_ids=ids).logits for each in (load_trained(paths.MODEL, read_base()), champion))
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-3)


def test_the_dropout_is_that_of_the_settings_not_of_the_earlier_adapter(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(prepare(project, tiny_llama, lora={"rank": 4, "dropout": 0.3}))
    stage.run(continue_training(project, tiny_llama, lora={"rank": 4, "dropout": 0.0}))
    assert read_json(paths.MODEL / "adapter_config.json")["lora_dropout"] == 0.0


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
def test_training_continues_trained_prompts(kind: str, project: Path, tiny_llama: Path) -> None:
    prompt = {"method": "prompt", "prompt": {"kind": kind, "virtual_tokens": 4}}
    stage.run(prepare(project, tiny_llama, **prompt, max_steps=20, learning_rate=0.3))
    before = load_file(paths.MODEL / "adapter_model.safetensors")
    stage.run(continue_training(project, tiny_llama, **prompt, learning_rate=1e-6, max_steps=1))
    after = load_file(paths.MODEL / "adapter_model.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-5) for name in before)
    with pytest.raises(TrainingError, match="of the same kind and number"):
        stage.run(continue_training(project, tiny_llama, method="prompt", prompt={"kind": kind, "virtual_tokens": 5}))


@pytest.mark.parametrize("first", ["lora", "full"])
@pytest.mark.parametrize("then", ["full", pytest.param("freeze", marks=pytest.mark.slow), "lora"])
def test_every_method_continues_from_the_champions_weights(
    first: str, then: str, project: Path, tiny_llama: Path
) -> None:
    stage.run(prepare(project, tiny_llama, method=first, max_steps=20))
    champion = load_trained(paths.MODEL, read_base())
    stage.run(continue_training(project, tiny_llama, method=then, learning_rate=1e-6, max_steps=1))
    model, base = load_trained(paths.MODEL, read_base()), load_base(read_base())
    ids = torch.tensor([[5, 6, 7, 8]])
    actual, expected, start = (each(input_ids=ids).logits for each in (model, champion, base))
    torch.testing.assert_close(actual, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(actual, start, atol=1e-2)
    assert is_adapter(paths.MODEL) == (first == then == "lora")


def test_continued_training_is_reproducible(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama))
    config = continue_training(project, tiny_llama)
    stage.run(config)
    digest = trained_digest()
    stage.run(config)
    assert trained_digest() == digest


def test_a_training_starts_from_the_earlier_one_which_is_recorded(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(Progress, "event", lambda self, **facts: events.append(facts | self.marks))
    first = {"max_steps": 12, "learning_rate": 5e-3, "lora": {"rank": 4}, "threads": 1, "precision": "fp32"}
    config = prepare(project, tiny_llama, before=[first], max_steps=1, learning_rate=1e-6)
    stage.run(config)
    report = read_json(paths.TRAINING_REPORT)
    assert (report["steps"], [each["steps"] for each in report["before"]]) == (1, [12])
    assert [each.get("before") for each in events if "loss" in each] == [1] * 12 + [None]
    after = load_file(paths.MODEL / "adapter_model.safetensors")
    stage.run(prepare(project, tiny_llama, **first))
    alone = load_file(paths.MODEL / "adapter_model.safetensors")
    assert all(torch.allclose(after[name], alone[name], atol=1e-5) for name in alone)


def test_interrupted_in_the_second_training_the_first_is_not_run_again(
    project: Path, tiny_llama: Path, monkeypatch: Any, capfd: Any
) -> None:
    from tasks.finetune.loop import train

    first = {"max_steps": 6, "learning_rate": 5e-3, "lora": {"rank": 4}, "threads": 1, "precision": "fp32"}
    config = prepare(project, tiny_llama, before=[first], max_steps=6, checkpoint_every_steps=2)
    stage.run(config)
    digest = trained_digest()

    class Killed(Exception):
        pass

    class Kills(train.SealCheckpoint):
        def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            super().on_save(args, state, control, **named)
            if "training-1" not in args.output_dir and state.global_step == 4:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train, "SealCheckpoint", Kills)
        with pytest.raises(Killed):
            stage.run(config)
    capfd.readouterr()
    (paths.EVENTS / "finetune.jsonl").unlink(missing_ok=True)
    stage.run(config)
    assert trained_digest() == digest
    assert "resumes from step 4" in "".join(capfd.readouterr())
    steps = [json.loads(line).get("step") for line in (paths.EVENTS / "finetune.jsonl").read_text().splitlines()]
    assert min(step for step in steps if step) > 4
