"""Search: the best trial's model is the candidate, a killed search resumes, and errors are reported before any work."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.project import params, write_params
from support.toy_training import prepare, trained_digest
from transformers import PreTrainedModel

from tasks import paths
from tasks.config import load_config
from tasks.errors import ConfigError, DataError, TrainingError
from tasks.finetune import job, stage
from tasks.finetune.config.search_settings import SearchSettings
from tasks.finetune.failures import Mishap
from tasks.finetune.loop.progress_callback import ProgressCallback
from tasks.finetune.search import search as search_module
from tasks.finetune.search.optuna_study import propose, study_of, typed_values
from tasks.finetune.search.trial import begin_trial
from tasks.finetune.search.trial_results import Outcome, write_outcome
from tasks.finetune.settings import FinetuneSettings
from tasks.runtime.files import read_json

RATES = {"learning_rate": {"low": 1e-4, "high": 2e-2, "log": True}, "lora.rank": {"choices": [2, 4]}}
SHORT = {"max_steps": 4, "evaluations_per_epoch": 100}


def searching(project: Path, base: Path, search: dict[str, Any], **settings: Any) -> Any:
    return prepare(project, base, **{**SHORT, **settings}, search={"trials": 3, "parameters": RATES, **search})


def search_report() -> dict[str, Any]:
    facts: dict[str, Any] = read_json(paths.TRAINING_REPORT)["search"]
    return facts


def test_the_best_trial_is_bit_identical_to_a_training_with_its_settings(project: Path, tiny_llama: Path) -> None:
    stage.run(searching(project, tiny_llama, {"trials": 4}))
    facts, digest, curves = search_report(), trained_digest(), (paths.MODEL / "curves.jsonl").read_text()
    losses = [trial["valid_loss"] for trial in facts["trials"]]
    assert len({str(trial["parameters"]) for trial in facts["trials"]}) > 1
    assert facts["best"]["valid_loss"] == min(loss for loss in losses if loss is not None)
    best = facts["best"]["parameters"]
    settings = {**SHORT, "learning_rate": best["learning_rate"], "lora": {"rank": best["lora.rank"]}}
    stage.run(prepare(project, tiny_llama, **settings))
    assert trained_digest() == digest
    assert (paths.MODEL / "curves.jsonl").read_text() == curves


def test_a_killed_search_repeats_no_finished_trial_and_ends_as_an_uninterrupted_one(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = searching(project, tiny_llama, {"random_trials": 1}, checkpoint_every_steps=2)
    stage.run(config)
    digest, report = trained_digest(), read_json(paths.TRAINING_REPORT)
    began: list[int] = []
    on_log = ProgressCallback.on_log

    def killed(self: Any, args: Any, state: Any, *arguments: Any, **named: Any) -> None:
        on_log(self, args, state, *arguments, **named)
        began.append(self.progress.marks["trial"])
        if began[-1] == 1 and state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCallback, "on_log", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
    assert set(began) == {0, 1}

    def seen(self: Any, *arguments: Any, **named: Any) -> None:
        began.append(self.progress.marks["trial"])
        on_log(self, *arguments, **named)

    monkeypatch.setattr(ProgressCallback, "on_log", seen)
    began.clear()
    capsys.readouterr()
    stage.run(config)
    assert 0 not in began
    assert "resumes from step 2" in capsys.readouterr().err
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT) == report


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_trial_resumes_from_the_checkpoint_before_a_damaged_one(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = searching(project, tiny_llama, {"random_trials": 1}, checkpoint_every_steps=1)
    stage.run(config)
    digest, report = trained_digest(), read_json(paths.TRAINING_REPORT)
    on_log = ProgressCallback.on_log

    def killed(self: Any, args: Any, state: Any, *arguments: Any, **named: Any) -> None:
        on_log(self, args, state, *arguments, **named)
        if self.progress.marks["trial"] == 1 and state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCallback, "on_log", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
    flip(max(paths.CHECKPOINTS.rglob("trial-1/checkpoint-*")) / "optimizer.pt")
    capsys.readouterr()
    stage.run(config)
    output = capsys.readouterr().err
    assert "is damaged (optimizer.pt has changed since it was written)" in output
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT) == report


def test_a_damaged_model_of_the_best_trial_is_never_the_candidate_and_is_trained_again(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = searching(project, tiny_llama, {"trials": 2})
    stage.run(config)
    digest, report = trained_digest(), read_json(paths.TRAINING_REPORT)
    keep_best = search_module._keep_best

    def damaging(folder: Path, until: int) -> None:
        keep_best(folder, until)
        if until == 2:
            (model,) = folder.rglob("*.safetensors")
            flip(model)

    with monkeypatch.context() as patch:
        patch.setattr(search_module, "_keep_best", damaging)
        with pytest.raises(Mishap, match=r"the model of trial \d, the best, is damaged\. Run again"):
            stage.run(config)
    stage.run(config)
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT) == report


def test_a_trial_worse_than_the_others_at_its_step_is_stopped_early(project: Path, tiny_llama: Path) -> None:
    rates = {"learning_rate": {"choices": [5e-3, 4e-3, 1e-6]}}
    search = {"parameters": rates, "sampler": "grid", "trials_before_pruning": 2, "seed": 4}
    stage.run(searching(project, tiny_llama, search, max_steps=6))
    assert search_report()["trials"][0]["state"] == "complete", "choose a seed by which 1e-6 is not the first"
    (stopped,) = [trial for trial in search_report()["trials"] if trial["state"] == "stopped"]
    assert stopped["parameters"] == {"learning_rate": 1e-6}
    assert max(map(int, stopped["valid_losses"])) < 6
    assert stopped["valid_loss"] is None


def test_an_invalid_trial_fails_alone_and_a_search_of_only_invalid_trials_reports_why(
    project: Path, tiny_llama: Path
) -> None:
    modules = {"lora.target_modules": {"choices": ["all-linear", ["no_such_module"]]}}
    stage.run(searching(project, tiny_llama, {"trials": 2, "parameters": modules, "sampler": "grid"}))
    states = {str(t["parameters"]["lora.target_modules"]): t["state"] for t in search_report()["trials"]}
    assert states == {"all-linear": "complete", "['no_such_module']": "failed"}
    assert any("match no module" in trial.get("told", "") for trial in search_report()["trials"])
    modules["lora.target_modules"]["choices"].pop(0)
    with pytest.raises(TrainingError, match=r"no trial completed: .*match no module"):
        stage.run(searching(project, tiny_llama, {"trials": 2, "parameters": modules}))


def test_an_unknown_field_of_the_trainer_is_reported_before_any_trial(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = searching(project, tiny_gpt2, {"parameters": {"trainer.adam_betaX": {"low": 0.8, "high": 0.9}}})
    monkeypatch.setattr(stage, "run_job", lambda _: pytest.fail("it began to work"))
    with pytest.raises(
        TrainingError, match=r"finetune\.trainer\.adam_betaX is not a field of TrainingArguments.*adam_beta"
    ):
        stage.run(config)


def test_a_value_that_the_optimiser_rejects_fails_only_its_trial(project: Path, tiny_gpt2: Path) -> None:
    betas = {"trainer.adam_beta2": {"choices": [0.9, 1.5]}}
    stage.run(searching(project, tiny_gpt2, {"trials": 2, "parameters": betas, "sampler": "grid"}, max_steps=2))
    states = {trial["parameters"]["trainer.adam_beta2"]: trial["state"] for trial in search_report()["trials"]}
    assert states == {0.9: "complete", 1.5: "failed"}
    assert any("Invalid beta" in trial.get("told", "") for trial in search_report()["trials"])


def test_repeated_values_are_not_trained_again(project: Path, tiny_gpt2: Path) -> None:
    search = {"trials": 4, "sampler": "random", "parameters": {"lora.rank": {"choices": [2, 4]}}}
    stage.run(searching(project, tiny_gpt2, search, max_steps=2))
    trials = search_report()["trials"]
    repeated = [trial for trial in trials if trial["state"] == "repeated"]
    assert len(repeated) == 2
    for trial in repeated:
        assert trial["valid_loss"] == trials[trial["same_as"]]["valid_loss"]


def test_a_search_without_validation_rows_fails_before_training(project: Path, tiny_gpt2: Path) -> None:
    from support.project import begin_round
    from support.toy_rows import toy_rows, write_part

    from tasks.curate.stage import run as curate
    from tasks.render.stage import run as render

    finetune = {**SHORT, "search": {"trials": 1, "parameters": RATES}}
    write_params(project, params(tiny_gpt2, [], finetune=finetune, curate={"valid_share": 0.0}))
    config = load_config()
    begin_round(config)
    write_part(toy_rows())
    curate(config)
    render(config)
    with pytest.raises(DataError, match=r"compares validation losses.*Raise curate\.valid_share"):
        stage.run(config)


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        ({"search": {"parameters": {"learning_rte": {"low": 1e-5, "high": 1e-3}}}}, "did you mean `learning_rate`"),
        ({"search": {"parameters": {"lora.rnk": {"choices": [1]}}}}, "did you mean `lora.rank`"),
        ({"search": {"parameters": {"lora": {"choices": [1]}}}}, "is a section"),
        ({"search": {"parameters": {"learning_rate": {"low": 0, "high": 1}}}}, "may not be 0: it should be greater than 0"),
        ({"search": {"parameters": {"method": {"choices": ["lora", "x"]}}}}, "may not be 'x'"),
        ({"search": {"parameters": {"method": {"low": 1, "high": 2}}}}, "is not a number: set `choices`"),
        ({"search": {"parameters": {"loss_on": {"choices": ["all"]}}}}, "changes what the validation loss means"),
        ({"search": {"parameters": {"learning_rate": {"low": 2, "high": 1}}}}, "above `high`"),
        ({"search": {"parameters": {"learning_rate": {"low": 1}}}}, "set `low` and `high`, or `choices`"),
        ({"search": {"parameters": RATES, "sampler": "grid"}}, "sampler: grid needs `choices` for learning_rate"),
        ({"search": {"parameters": RATES}, "evaluations_per_epoch": 0}, "set evaluations_per_epoch"),
        ({"search": {"parameters": RATES}, "objective": "grpo"}, "objective: grpo has none"),
        (
            {"search": {"parameters": {"label_smoothing": {"choices": [0.1]}}}, "objective": "dpo"},
            "changes what the validation loss means",
        ),
    ],
)  # fmt: skip
def test_an_invalid_search_is_an_error_in_one_line_of_the_configuration(
    finetune: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, params("base", [], finetune=finetune))
    with pytest.raises(ConfigError) as raised:
        load_config()
    assert message in str(raised.value)
    assert "line " in str(raised.value)


def test_the_values_of_a_trial_depend_only_on_the_earlier_trials(tmp_path: Path) -> None:
    search = SearchSettings.model_validate_json(json.dumps({"parameters": RATES, "random_trials": 2, "trials": 12}))
    for number in range(8):
        _, values = propose(search, FinetuneSettings, tmp_path, number)
        assert propose(search, FinetuneSettings, tmp_path, number)[1] == values
        loss = 2.0 + abs(values["learning_rate"] - 3e-3) * 100
        write_outcome(tmp_path, Outcome(number, values, "complete", loss, {"4": loss}))
    rates = [propose(search, FinetuneSettings, tmp_path, number)[1]["learning_rate"] for number in range(9)]
    assert len(set(rates)) == 9
    outcomes = search_module.read_outcomes(tmp_path, 8)
    importance = search_module._importance(study_of(search, FinetuneSettings, outcomes, 8), outcomes)
    assert set(importance) == set(RATES)
    assert importance["learning_rate"] > importance["lora.rank"]


def test_a_trial_that_is_killed_before_it_is_stopped_is_stopped_at_the_same_step_when_it_resumes(
    tmp_path: Path,
) -> None:
    """What a killed trial reported after its last checkpoint must not count: a shared study would stop it two steps earlier."""
    search = SearchSettings.model_validate_json(json.dumps({"parameters": RATES, "trials_before_pruning": 1}))
    for number in range(3):
        losses = {"4": 1.0, "6": 1.0, "8": 0.5}
        write_outcome(tmp_path, Outcome(number, {"learning_rate": 1e-3, "lora.rank": 2}, "complete", 0.5, losses))
    losses_by_step = {4: 0.9, 6: 0.9, 8: 2.0}

    def stopped_at(checkpoint_step: int) -> int:
        """Trains trial 3 from a checkpoint of that step, 0 for the start."""
        trial = begin_trial(search, FinetuneSettings, tmp_path, 3)
        history = [
            {"step": step, "eval_loss": loss} for step, loss in losses_by_step.items() if step <= checkpoint_step
        ]
        state, control = SimpleNamespace(max_steps=12, log_history=history), SimpleNamespace()
        trial.on_train_begin(None, state, control)
        for state.global_step in [step for step in losses_by_step if step > checkpoint_step]:
            trial.on_evaluate(None, state, control, {"eval_loss": losses_by_step[state.global_step]})
            if trial.is_stopped:
                return int(state.global_step)
        raise AssertionError("it was not stopped")

    assert stopped_at(0) == 8
    assert stopped_at(5) == 8  # killed at step 8, before it stopped


def test_a_failure_of_the_machine_is_no_failure_of_a_trial(
    project: Path, tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = searching(project, tiny_gpt2, {"trials": 2}, max_steps=2)

    def fill_up(*_: Any, **__: Any) -> None:
        raise Mishap("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "run_job", fill_up)
        with pytest.raises(Mishap):
            stage.run(config)
    stage.run(config)
    assert [trial["state"] for trial in search_report()["trials"]] == ["complete", "complete"]


def test_choices_of_a_field_of_the_trainer_keep_their_type() -> None:
    parameters = {"trainer.num_train_epochs": {"choices": [1, 2]}, "trainer.adam_beta2": {"low": 0, "high": 1}}
    search = SearchSettings.model_validate_json(json.dumps({"parameters": parameters}))
    values = typed_values(search, FinetuneSettings, {"trainer.num_train_epochs": 2, "trainer.adam_beta2": 1})
    assert [type(value) for value in values.values()] == [int, float]


def test_a_trial_starts_without_the_previous_model_in_memory(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    begin = job.begin_trial

    def watched(*arguments: Any) -> Any:
        alive.append(sum(isinstance(value, PreTrainedModel) for value in gc.get_objects()))
        return begin(*arguments)

    monkeypatch.setattr(job, "begin_trial", watched)
    stage.run(searching(project, tiny_llama, {}))
    assert alive[0] == alive[1] == alive[2]


def test_a_trial_has_the_precision_that_it_tries(project: Path, tiny_llama: Path) -> None:
    grid = {"trials": 2, "sampler": "grid", "parameters": {"precision": {"choices": ["fp32", "bf16"]}}}
    stage.run(searching(project, tiny_llama, grid))
    assert len({trial["valid_loss"] for trial in search_report()["trials"]}) == 2
    assert read_json(paths.TRAINING_REPORT)["precision"] == search_report()["best"]["parameters"]["precision"]


def test_an_unsupported_method_fails_only_its_trial(project: Path, tiny_llama: Path) -> None:
    grid = {"trials": 2, "sampler": "grid", "parameters": {"method": {"choices": ["lora", "qlora"]}}}
    stage.run(searching(project, tiny_llama, grid))
    assert {trial["parameters"]["method"]: trial["state"] for trial in search_report()["trials"]} == {
        "lora": "complete",
        "qlora": "complete" if torch.cuda.is_available() else "failed",
    }
