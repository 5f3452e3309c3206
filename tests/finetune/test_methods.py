"""Room `finetune`: each method trains only its own parameters, and each setting has its effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.base.load import load_base, load_trained
from tasks.base.pin import read_base
from tasks.dataset.rendered import read_rendered
from tasks.errors import ConfigError, TrainingError
from tasks.evaluate.stage import run as evaluate
from tasks.finetune import job, stage
from tasks.finetune.step import chunked_loss
from tasks.finetune.step.chunked_loss import cross_entropy, summed_loss, use_answer_loss
from tasks.finetune.step.packed_attention import PackedRows, collate, collate_padded, use_packed_attention
from tasks.finetune.step.trainer import AnswerTrainer
from tasks.finetune.work import Work
from tasks.runtime.files import read_json, write_json

METHODS: dict[str, dict[str, Any]] = {
    "dora": {"method": "dora"},
    "prompt": {"method": "prompt", "learning_rate": 0.3},
    "prefix": {"method": "prompt", "prompt": {"kind": "prefix", "virtual_tokens": 4}, "learning_rate": 0.3},
    "freeze": {"method": "freeze", "freeze": {"last_layers": 1}},
}


def losses() -> list[float]:

    lines = (paths.MODEL / "curves.jsonl").read_text().splitlines()
    return [point["loss"] for point in map(json.loads, lines) if "loss" in point]


@pytest.mark.parametrize("name", METHODS)
def test_each_method_lowers_the_loss_and_leaves_a_model_that_loads(name: str, project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama, max_steps=30, **METHODS[name]))
    assert sum(losses()[-3:]) < sum(losses()[:3])
    model, base = load_trained(paths.MODEL, read_base()), load_base(read_base())
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not torch.allclose(model(input_ids=ids).logits[:, -1], base(input_ids=ids).logits[:, -1])


@pytest.mark.parametrize("name", METHODS)
def test_a_model_of_each_method_answers_the_test_rows(name: str, project: Path, tiny_llama: Path) -> None:
    config = prepare(project, tiny_llama, **METHODS[name])
    stage.run(config)
    write_json(paths.ROUND, {"champion": None, "test_epoch": 1, "looks": 0})
    evaluate(config)
    answers = pq.read_table(paths.PREDICTIONS / "candidate.parquet")
    assert answers.num_rows == read_json(paths.METRICS)["test_rows"] > 0


@pytest.mark.parametrize("name", METHODS)
def test_each_method_gives_the_same_weights_again(name: str, project: Path, tiny_llama: Path) -> None:
    config = prepare(project, tiny_llama, **METHODS[name])
    stage.run(config)
    digest = trained_digest()
    stage.run(config)
    assert trained_digest() == digest


def test_freezing_changes_only_the_named_parts(project: Path, tiny_llama: Path) -> None:
    chosen = {"last_layers": 1, "modules": ["layers.0.mlp"]}
    stage.run(prepare(project, tiny_llama, method="freeze", freeze=chosen, precision="bf16"))
    before, after = load_base(read_base()).state_dict(), load_file(paths.MODEL / "model.safetensors")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    last = max(int(name.split(".")[2]) for name in after if ".layers." in name)
    assert {name.split(".")[2] for name in changed if ".layers." in name} == {"0", str(last)}
    assert not any("layers.0.self_attn" in name or "embed_tokens" in name for name in changed)
    report = read_json(paths.TRAINING_REPORT)
    assert 0 < report["trainable_parameters"] < report["parameters"]


@pytest.mark.parametrize("chosen", ["embeddings", "head"])
@pytest.mark.parametrize("base", ["tiny_gpt2", "tiny_llama"])
def test_embeddings_and_head_are_trained_by_name_with_frozen_weights_in_bf16(
    base: str, chosen: str, request: Any, project: Path
) -> None:
    named = {"last_layers": 0, chosen: True}
    stage.run(prepare(project, request.getfixturevalue(base), method="freeze", freeze=named, precision="bf16"))
    before, after = load_base(read_base()).state_dict(), load_file(paths.MODEL / "model.safetensors")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert len(changed) == 1  # they share their weights
    assert changed <= {"transformer.wte.weight", "model.embed_tokens.weight"}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"last_layers": 0}, "freezes all parameters"),
        ({"modules": ["attention_of_mars"]}, "'attention_of_mars'"),
        ({"last_layers": 3}, "has 2 layers"),
    ],
    ids=str,
)
def test_invalid_freezing_is_reported(chosen: Any, message: str, project: Path, tiny_llama: Path) -> None:
    with pytest.raises(TrainingError, match=message):
        stage.run(prepare(project, tiny_llama, method="freeze", freeze=chosen))


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests a machine without a GPU")
def test_four_bits_without_a_gpu_are_rejected_before_any_work(
    project: Path, tiny_llama: Path, monkeypatch: Any
) -> None:
    config = prepare(project, tiny_llama, method="qlora")
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("it began to work"))
    with pytest.raises(TrainingError, match="needs a GPU"):
        stage.run(config)


def test_any_other_field_of_the_trainer_may_be_set(project: Path, tiny_gpt2: Path) -> None:
    stage.run(prepare(project, tiny_gpt2))
    digest = trained_digest()
    stage.run(prepare(project, tiny_gpt2, trainer={"adam_beta2": 0.5}))
    other = trained_digest()
    stage.run(prepare(project, tiny_gpt2, trainer={"optim": "adafactor"}))
    assert len({digest, other, trained_digest()}) == 3


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", 1.0, "is set by finetune.learning_rate"),
        ("fsdp", "full_shard", "is set by finetune.launch.strategy"),
        ("deepspeed", "ds.json", "is set by finetune.launch.strategy"),
        ("output_dir", "elsewhere", "may not be set"),
        ("trust_remote_code", True, "may not be set"),
        ("model_init_kwargs", {"trust_remote_code": True}, "may not be set"),
        ("hub_token", "hf_x", "may not be set: it could run a model's code, or store a secret"),
        ("adam_beta3", 0.9, "Nearest: adam_beta"),
        ("optim", "magic", "magic"),
        ("adam_beta2", 1.5, "beta"),
    ],
)
def test_an_invalid_field_of_the_trainer_is_reported(
    field: str, value: Any, message: str, project: Path, tiny_gpt2: Path
) -> None:
    with pytest.raises(TrainingError) as raised:
        stage.run(prepare(project, tiny_gpt2, trainer={field: value}))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer": {"adam_beta3": 0.9}}, "Nearest: adam_beta"),
        ({"trainer": {"output_dir": "elsewhere"}}, "may not be set"),
    ],
)
def test_an_error_in_a_later_training_is_reported_before_the_first(
    settings: dict[str, Any], message: str, project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_gpt2, before=[{"objective": "sft"}], **settings)
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("it began to work"))
    with pytest.raises(TrainingError) as raised:
        stage.run(config)
    assert message in str(raised.value)


PROMPT: dict[str, Any] = {"method": "prompt", "prompt": {"virtual_tokens": 4}}


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"method": "lora"}, PROMPT, "method: prompt can only start from trained prompts"),
        ({"method": "prompt"}, PROMPT, "of the same kind and number"),
        (PROMPT, {"method": "lora"}, "method: lora cannot start from method: prompt"),
    ],
    ids=["lora", "other prompts", "then lora"],
)
def test_an_invalid_start_of_prompts_is_a_configuration_error(
    first: dict[str, Any], then: dict[str, Any], message: str, project: Path, tiny_gpt2: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(project, tiny_gpt2, before=[first], **then)


def test_prompts_continue_from_the_same_prompts(project: Path, tiny_gpt2: Path) -> None:
    stage.run(prepare(project, tiny_gpt2, before=[{**PROMPT, "max_steps": 1}], max_steps=1, **PROMPT))
    assert read_json(paths.TRAINING_REPORT)["before"][0]["steps"] == 1


@given(
    tokens=st.integers(1, 9),
    vocabulary=st.integers(2, 20),
    at_once=st.integers(1, 60),
    smoothing=st.sampled_from([0.0, 0.1]),
    has_bias=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_the_chunked_loss_equals_torchs_in_value_and_gradients(
    tokens: int, vocabulary: int, at_once: int, smoothing: float, has_bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    hidden, weight = torch.randn(tokens, 6).requires_grad_(), torch.randn(vocabulary, 6).requires_grad_()
    bias = torch.randn(vocabulary).requires_grad_() if has_bias else None
    labels = torch.randint(0, vocabulary, (tokens,))
    values = [value for value in (hidden, weight, bias) if value is not None]
    logits = torch.nn.functional.linear(hidden, weight, bias)
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_loss, "LOGITS_AT_ONCE", at_once)
        patch.setattr(chunked_loss, "MIN_CHUNK_TOKENS", 2)
        loss = summed_loss(hidden, weight, bias, cross_entropy(labels, smoothing))
    torch.testing.assert_close(loss, expected)
    for own, theirs in zip(
        torch.autograd.grad(loss * 0.5, values), torch.autograd.grad(expected * 0.5, values), strict=True
    ):
        torch.testing.assert_close(own, theirs)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_loss_without_grad_mode_computes_no_gradients(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, bias = (torch.randn(*shape).requires_grad_() for shape in ((5, 6), (9, 6), (9,)))
    labels = torch.arange(5)
    expected = summed_loss(hidden, weight, bias, cross_entropy(labels)).detach()
    for name in ("zeros_like", "empty_like"):
        monkeypatch.setattr(chunked_loss.torch, name, lambda *_, **__: pytest.fail("it allocated a gradient"))
    with mode():
        assert torch.equal(summed_loss(hidden, weight, bias, cross_entropy(labels)), expected)


@pytest.mark.parametrize("base", ["tiny_gpt2", "tiny_llama"])
def test_a_model_computes_the_loss_of_its_own_logits(base: str, request: Any, project: Path) -> None:
    prepare(project, request.getfixturevalue(base))
    model = load_base(read_base())
    use_packed_attention(model)
    batch = collate([PackedRows(read_rendered("train"))[0]])
    labels = batch.pop("labels")[0]
    batch.pop("rows")
    positions = (labels != -100).nonzero()[:, 0]
    expected = torch.nn.functional.cross_entropy(
        model(**batch).logits[0, positions - 1], labels[positions], reduction="sum"
    )
    assert use_answer_loss(model)
    loss = model(**batch, answer_positions=positions - 1, answer_labels=labels[positions]).loss
    torch.testing.assert_close(loss, expected)
    assert model(**batch).logits.shape[1] == len(labels), "logits are still available"


def test_a_model_with_modified_logits_keeps_its_own_forward(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama)
    model = load_base(read_base())
    use_packed_attention(model)
    plain = model.forward
    model.forward = lambda *args, **named: _capped(plain(*args, **named))
    assert not use_answer_loss(model)


def _capped(outputs: Any) -> Any:
    outputs.logits = torch.tanh(outputs.logits)
    return outputs


def test_loss_on_all_leaves_out_only_the_first_token_of_each_example(project: Path, tiny_gpt2: Path) -> None:
    prepare(project, tiny_gpt2)
    rendered = read_rendered("train")
    batch = collate([PackedRows(rendered, learns_all=True)[0]])
    starts = batch["cu_seq_lens_q"][:-1].long()
    unlearned = (batch["labels"][0] == -100).nonzero()[:, 0]
    assert torch.equal(unlearned, starts)
    stage.run(prepare(project, tiny_gpt2, loss_on="all"))


def test_an_unpacked_batch_has_the_tokens_of_a_packed_one(project: Path, tiny_gpt2: Path) -> None:
    prepare(project, tiny_gpt2)
    rows = PackedRows(read_rendered("train"))
    flat, lines = collate([rows[0], rows[1]]), collate_padded([rows[0], rows[1]])
    inside = lines["attention_mask"].bool()
    assert torch.equal(lines["input_ids"][inside], flat["input_ids"][0])
    assert torch.equal(lines["labels"][inside], flat["labels"][0])
    assert bool((lines["labels"][~inside] == -100).all())


def test_noise_on_embeddings_is_scaled_by_each_examples_length(project: Path, tiny_gpt2: Path) -> None:
    from tasks.finetune.config.trainer_arguments import training_arguments

    config = prepare(project, tiny_gpt2)
    model = load_base(read_base())
    arguments = training_arguments(Work(config.finetune, read_base(), "fp32", project / "checkpoints"), 4, 0)
    trainer = AnswerTrainer(model=model, args=arguments, neftune_alpha=5.0)
    trainer.lengths = torch.tensor([1, 100])
    ids = torch.full((1, 101), 7)
    embed = trainer.model.get_input_embeddings()
    model.eval()
    clean = embed(ids)
    model.train()
    noise = (embed(ids) - clean)[0].abs()
    width = clean.shape[-1]
    assert noise[0].max() <= 5 / width**0.5
    assert noise[1:].max() <= 5 / (100 * width) ** 0.5
    assert noise[1:].max() > 0.9 * 5 / (100 * width) ** 0.5


def test_smoothing_noise_and_loss_on_change_the_weights(project: Path, tiny_gpt2: Path) -> None:
    digests = set()
    for more in ({}, {"label_smoothing": 0.1}, {"neftune_alpha": 5.0}, {"loss_on": "all"}):
        stage.run(prepare(project, tiny_gpt2, **more))
        digests.add(trained_digest())
    assert len(digests) == 4


@pytest.mark.parametrize("chance", [{"label_smoothing": 0.5}, {"dropout": 0.3}, {"neftune_alpha": 200.0}])
def test_the_validation_loss_has_no_smoothing_dropout_or_noise(
    chance: dict[str, float], project: Path, tiny_gpt2: Path
) -> None:
    def losses(**settings: float) -> list[list[float]]:
        stage.run(prepare(project, tiny_gpt2, method="full", learning_rate=1e-9, **settings))
        points = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
        return [[point[name] for point in points if name in point] for name in ("loss", "valid_loss")]

    (plain, valid), (harder, valid_beside) = losses(), losses(**chance)
    assert valid
    assert valid_beside == pytest.approx(valid, rel=1e-5)
    assert abs(harder[0] - plain[0]) > 1e-3


def test_a_constant_learning_rate_is_reached_by_warm_up_too(project: Path, tiny_gpt2: Path) -> None:
    stage.run(prepare(project, tiny_gpt2, schedule="constant", warmup_share=0.5, max_steps=4, learning_rate=0.004))
    points = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
    assert [point["learning_rate"] for point in points if "loss" in point] == [0, 0.002, 0.004, 0.004]


SCHEDULES: dict[str, dict[str, Any]] = {
    "polynomial": {"lr_end": 0.0, "power": 2.0},
    "inverse_sqrt": {"timescale": 2},
    "cosine_with_restarts": {"num_cycles": 2},
    "cosine_with_min_lr": {"min_lr_rate": 0.5},
    "cosine_warmup_with_min_lr": {"min_lr": 0.002},
    "warmup_stable_decay": {"num_decay_steps": 2, "decay_type": "linear"},
}
RATES = {
    "polynomial": [1, 0.5625, 0.25, 0.0625],
    "inverse_sqrt": [1, (2 / 3) ** 0.5, 0.5**0.5, 0.4**0.5],
    "cosine_with_restarts": [1, 0.5, 1, 0.5],
    "cosine_with_min_lr": [1, 0.926777, 0.75, 0.573223],
    "cosine_warmup_with_min_lr": [0.926777, 0.75, 0.573223, 0.5],
    "warmup_stable_decay": [1, 1, 1, 0.5],
}
"""Of the first four steps of four, as shares of the learning rate."""


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_is_followed(name: str, project: Path, tiny_gpt2: Path) -> None:
    trainer = {"lr_scheduler_kwargs": SCHEDULES[name]}
    settings = {"warmup_share": 0.0, "max_steps": 4, "learning_rate": 0.004, "trainer": trainer}
    stage.run(prepare(project, tiny_gpt2, schedule=name, **settings))
    points = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
    rates = [point["learning_rate"] / 0.004 for point in points if "loss" in point]
    assert rates == pytest.approx(RATES[name], rel=1e-4)


@pytest.mark.parametrize("trainer", [{}, {"lr_scheduler_kwargs": 5}], ids=["nothing", "a number"])
@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("cosine_with_min_lr", "min_lr or min_lr_rate"),
        ("cosine_warmup_with_min_lr", "min_lr or min_lr_rate"),
        ("warmup_stable_decay", "num_decay_steps"),
    ],
)
def test_a_missing_argument_of_a_schedule_is_a_configuration_error(
    name: str, needed: str, trainer: dict[str, Any], project: Path, tiny_gpt2: Path
) -> None:
    with pytest.raises(ConfigError, match=f"schedule: {name} needs trainer.lr_scheduler_kwargs with {needed}"):
        prepare(project, tiny_gpt2, schedule=name, trainer=trainer)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("polynomial", {"min_lr": 0.1}, "It takes lr_end, power, under finetune.trainer.lr_scheduler_kwargs"),
        ("polynomial", {"lr_end": 1.0}, "must be smaller than initial lr"),
        ("inverse_sqrt", {"timescale": 0}, "finetune.schedule: inverse_sqrt: "),
        ("warmup_stable_decay", {"num_decay_steps": 2, "decay_type": "steep"}, "Unknown decay type: steep"),
        ("linear", {"power": 2.0}, "It takes no arguments, under"),
    ],
)
def test_an_invalid_argument_of_a_schedule_is_reported_before_the_first_training(
    name: str, kwargs: dict[str, Any], message: str, project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = {"lr_scheduler_kwargs": kwargs}
    config = prepare(project, tiny_gpt2, before=[{"objective": "sft"}], schedule=name, trainer=trainer)
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("it began to work"))
    with pytest.raises(TrainingError) as raised:
        stage.run(config)
    assert message in str(raised.value)


def test_a_schedule_without_a_step_after_warm_up_is_reported(project: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(TrainingError, match=r"finetune\.schedule: polynomial: "):
        stage.run(prepare(project, tiny_gpt2, schedule="polynomial", warmup_share=0.9, max_steps=1))


def test_a_missing_library_of_a_trainer_field_is_named(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "transformers.integrations.liger.is_liger_kernel_available", lambda: False
    )  # if it is installed
    with pytest.raises(TrainingError, match=r"finetune\.trainer: the trainer: .*[Ll]iger"):
        stage.run(prepare(project, tiny_gpt2, trainer={"use_liger_kernel": True}))


def test_prefixes_with_gradient_checkpointing_are_rejected_before_any_work(project: Path, tiny_gpt2: Path) -> None:
    prefix = {"method": "prompt", "prompt": {"kind": "prefix"}, "gradient_checkpointing": True}
    with pytest.raises(ConfigError, match=r"gradient_checkpointing cannot be combined with prompt\.kind: prefix"):
        prepare(project, tiny_gpt2, **prefix)


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto", "grpo", "reward"])
def test_no_objective_runs_a_models_code_by_a_field_of_the_trainer(objective: str) -> None:
    from tasks.finetune.config.trainer_arguments import require_fields

    for field in ("trust_remote_code", "model_init_kwargs"):
        with pytest.raises(TrainingError, match=f"{field} may not be set"):
            require_fields(objective, [field])
