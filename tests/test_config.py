"""params.yaml: all mistakes at once, each with its line, the value, what is allowed and the nearest valid key."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from support.project import REPOSITORY, params, write_params

from flows.settings_reference import field_docs, settings_classes
from tasks.config import PipelineConfig, load_config, settings_within
from tasks.errors import ConfigError

RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))

WRONG = """\
base: {model: x}
ingest:
  sources:
    - {name: A b, path: x, shape: alpca, family: topic}
validate: {max_refused_shre: 1}
curate: {test_share: 0.95}
render: {}
finetune:
  learning_rate: fast
  epohcs: 3
evaluate: {}
gate: {}
register: {}
"""


def mistakes(tmp_path: Path, text: str) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def test_all_errors_are_reported_at_once_with_line_value_and_what_is_allowed(tmp_path: Path) -> None:
    message = mistakes(tmp_path, WRONG)
    assert "7 errors" in message
    for line in (
        "line 1: `promote` is missing",
        'line 4: `ingest.sources.0.name` is "A b"',
        "line 4: `ingest.sources.0.shape` is \"alpca\", but should be 'alpaca'",
        "line 5: `validate.max_refused_shre` is not a setting; did you mean `max_refused_share`?",
        "line 6: `curate`: valid_share and test_share together leave nothing to train on",
        'line 9: `finetune.learning_rate` is "fast", but should be a valid number',
        "line 10: `finetune.epohcs` is not a setting; did you mean `epochs`?",
    ):
        assert line in message, message


def test_a_file_that_is_no_yaml_is_reported_with_its_place(tmp_path: Path) -> None:
    assert "not readable as YAML" in mistakes(tmp_path, "base: [1, 2\nx")
    assert "has no sections" in mistakes(tmp_path, "")


def test_a_missing_file_is_reported_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not found\. Copy a recipe: cp recipes/"):
        load_config(tmp_path / "params.yaml")


@pytest.mark.parametrize("value", ["5e-4", "0.0005", "5.0E-4"])
def test_a_number_may_be_written_as_people_write_it(tmp_path: Path, value: str) -> None:
    write_params(tmp_path, params("x", []))
    text = (tmp_path / "params.yaml").read_text().replace('"learning_rate": 0.005', f'"learning_rate": {value}')
    (tmp_path / "params.yaml").write_text(text)
    assert load_config(tmp_path / "params.yaml").finetune.learning_rate == 5e-4


def test_a_config_is_frozen(tmp_path: Path) -> None:
    write_params(tmp_path, params("x", []))
    config = load_config(tmp_path / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.finetune.epochs = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("recipe", [*RECIPES, REPOSITORY / "params.yaml"], ids=lambda p: p.name)
def test_every_recipe_parses(recipe: Path) -> None:
    assert load_config(recipe).base.model


def fields(model: type, prefix: str = "") -> list[tuple[str, str | None]]:
    result: list[tuple[str, str | None]] = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        path = f"{prefix}{field.alias or name}"
        result.append((path, field_docs(model).get(name)))
        if inner := settings_within(field.annotation):
            result += fields(inner, f"{path}.")
    return result


def test_every_setting_is_explained_under_its_field() -> None:
    assert [path for path, description in fields(PipelineConfig) if not description] == []


def test_the_reference_page_is_the_one_that_the_docstrings_give() -> None:
    from flows.settings_reference import reference

    assert (REPOSITORY / "docs/settings.md").read_text(encoding="utf-8") == reference(), "run: make docs"


NUMBERS = [
    (model, field.alias or name)
    for model in sorted(settings_classes(), key=lambda each: each.__name__)
    for name, field in model.model_fields.items()
    if "float" in str(field.annotation) or "int" in str(field.annotation).replace("Hint", "")
]


@pytest.mark.parametrize(("model", "name"), NUMBERS, ids=lambda each: getattr(each, "__name__", each))
def test_no_number_may_be_infinite_or_none_at_all(model: type[BaseModel], name: str) -> None:
    """Case 19's kind: a library would refuse it, after all the work that comes before it."""
    for value in ("NaN", "Infinity", "-Infinity", "1e999"):
        with pytest.raises(ValidationError) as caught:
            model.model_validate_json(f'{{"{name}": {value}}}')
        assert name in {error["loc"][0] for error in caught.value.errors()}


def test_every_seed_is_one_that_numpy_torch_and_optuna_take() -> None:
    """Case 19's kind: `seed: -1` came to nothing at the end of a training's first step."""
    seeded = [model for model in settings_classes() if "seed" in model.model_fields]
    assert len(seeded) >= 6
    for model in seeded:
        for value, is_refused in ((-1, True), (2**32, True), (2**32 - 2, False), (0, False)):
            try:
                model.model_validate_json(f'{{"seed": {value}}}')
                refused = set()
            except ValidationError as error:
                refused = {each["loc"][0] for each in error.errors()}
            assert ("seed" in refused) == is_refused


def project_with(tmp_path: Path, **sections: Any) -> str:
    """What is wrong with a project's parameters; the project has the templates of this one."""
    shutil.copytree(REPOSITORY / "data/templates", tmp_path / "data/templates", dirs_exist_ok=True)
    source = {"name": "a", "path": "inbox/a.jsonl", "shape": "text_label", "family": "sentiment"}
    config = params("base/model", [source])
    for name, values in sections.items():
        config[name] = {**config.get(name, {}), **values}
    write_params(tmp_path, config)
    written = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    written = written.replace(": NaN", ": .nan").replace("Infinity", ".inf")  # as YAML writes them
    (tmp_path / "params.yaml").write_text(written, encoding="utf-8")
    try:
        load_config(tmp_path / "params.yaml")
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name", ["qwen2.5-news", "x..y", "foo.lock", "a/b", "a:b", "-a", "a b", "", "模型", "a@{b", "a\n", ".a", "x" * 101]
)
def test_a_name_that_mlflow_or_git_refuses_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """Case 19: it was refused after the whole training, and the fix blamed the registry."""
    message = project_with(tmp_path, register={"model_name": name})
    assert "`register.model_name`" in message
    assert ("no dot" in message) == ("." in name)


def test_what_mlflow_and_git_say_of_a_name_that_may_be(tmp_path: Path) -> None:
    """The rule is at least as strict as theirs."""
    import subprocess

    from mlflow.utils.validation import _validate_logged_model_name, _validate_model_name

    for name in ("qwen2_5-news", "A", "9-x", "strop-model"):
        assert not project_with(tmp_path, register={"model_name": name})
        _validate_model_name(name)
        _validate_logged_model_name(name)
        subprocess.run(["git", "check-ref-format", f"refs/tags/{name}@v1"], check=True)


def test_a_family_or_chat_template_that_is_nowhere_is_reported_before_any_work(tmp_path: Path) -> None:
    """Case 20: it passed config, doctor, ingest, validate and curate, and failed at render."""
    source = {"name": "a", "path": "inbox/a.jsonl", "shape": "text_label", "family": "sentimant"}
    message = project_with(
        tmp_path,
        ingest={"sources": [source]},
        gate={"families": {"topics": {"floor": 0.5}}},
        render={"balance": [{"family": "zzz", "weight": 2}]},
        base={"chat_template": "qwn"},
    )
    assert "4 errors" in message
    for what in (
        '`ingest.sources.0.family` is "sentimant", which is not a family: did you mean `sentiment`? Or write data/templates/',
        '`gate.families.topics` is "topics", which is not a family: did you mean `topic`?',
        '`render.balance.0.family` is "zzz", which is not a family: there are code, dialogue,',
        '`base.chat_template` is "qwn", which is not a chat template: did you mean `qwen`?',
    ):
        assert what in message
    (tmp_path / "data/templates/sentimant.yaml").write_text("")
    assert "sentimant" not in project_with(tmp_path, ingest={"sources": [source]})


@pytest.mark.parametrize(
    ("section", "values", "place"),
    [
        ("finetune", {"trainer": {"adam_beta2": float("nan")}}, "finetune.trainer.adam_beta2"),
        ("finetune", {"search": {"parameters": {"lora.alpha": {"choices": [8.0, float("inf")]}}}}, "finetune.search.parameters"),
        ("finetune", {"max_steps": 10**30}, "finetune.max_steps"),
        ("finetune", {"threads": 10**6}, "finetune.threads"),
        ("finetune", {"lora": {"target_modules": []}}, "finetune.lora.target_modules"),
        ("finetune", {"lora": {"target_modules": [""]}}, "finetune.lora.target_modules"),
        ("finetune", {"launch": {"nodes": 2, "address": "host:99999"}, "gradient_accumulation_steps": 2}, "finetune.launch"),
        ("finetune", {"launch": {"nodes": 2, "address": ":29500"}, "gradient_accumulation_steps": 2}, "finetune.launch"),
        ("base", {"model": "a/b/c"}, "base.model"),
        ("base", {"model": "a..b"}, "base.model"),
        ("base", {"model": ""}, "base.model"),
        ("base", {"revision": ""}, "base.revision"),
        ("register", {"tracking_uri": "htp://x"}, "register.tracking_uri"),
        ("register", {"tracking_uri": ""}, "register.tracking_uri"),
        ("validate", {"processes": 10**9}, "validate.processes"),
    ],
)  # fmt: skip
def test_other_values_that_a_library_would_refuse_are_reported_at_once(
    tmp_path: Path, section: str, values: dict[str, Any], place: str
) -> None:
    """Case 19's kind."""
    message = project_with(tmp_path, **{section: values, "gate": {"alpha": 7}})
    assert f"`{place}" in message
    assert "`gate.alpha`" in message, "all at once"


def test_all_invalid_combinations_of_a_training_are_reported_at_once(tmp_path: Path) -> None:
    before = [{"objective": "sft", "early_stopping_patience": 2, "evaluations_per_epoch": 0}]
    message = project_with(tmp_path, finetune={"before": before})
    assert "`finetune.before.0`: early_stopping_patience counts" in message
    pairs = {
        "objective": "dpo",
        "loss_on": "all",
        "batches": "by_length",
        "method": "prompt",
        "before": [{"objective": "classify"}],
    }
    message = project_with(tmp_path, finetune=pairs)
    for what in (
        "batches: by_length is for objective: sft and pretrain, not dpo; ",
        "method: prompt cannot be combined with objective: dpo; ",
        "loss_on: all cannot be combined with objective: dpo; ",
        "objective: dpo cannot start from objective: classify",
    ):
        assert what in message


def test_a_number_is_reported_once(tmp_path: Path) -> None:
    assert "1 error:" in project_with(tmp_path, finetune={"learning_rate": float("inf")})


def test_the_reference_names_every_value_of_a_setting_that_has_a_list_of_them() -> None:
    from flows.settings_reference import reference

    lines = {line.split("`")[1]: line for line in reference().splitlines() if line.startswith("| `sources[]")}
    assert all(
        f"`{value}`" in lines["sources[].format"] for value in ("jsonl", "parquet", "conll", "parallel", "semeval")
    )
    assert all(f"`{value}`" in lines["sources[].text_unit"] for value in ("line", "document"))
    assert lines["sources[].language"].endswith("One of `auto`, `en`, `zh`. |") or "`zh`" in lines["sources[].language"]


def test_what_no_library_takes_as_a_text_is_refused_with_its_place(tmp_path: Path) -> None:
    """Case 19's kind: each of these came to a traceback, at once or in a later stage."""
    source = {"name": "a", "path": "inbox/\0.jsonl", "shape": "text_label", "family": "sentiment", "encoding": "idna"}
    message = project_with(
        tmp_path, ingest={"sources": [source]}, base={"model": "x" * 3000}, curate={"split_salt": "\0"}
    )
    assert "4 errors" in message
    for what in (
        "`ingest.sources.0.path` contains a NUL character",
        "`idna` is not a text encoding",
        "`base.model`",
        "`curate.split_salt` contains a NUL character",
    ):
        assert what in message
    assert max(map(len, message.splitlines())) < 400


def test_no_setting_has_the_name_of_a_method_of_mappings() -> None:
    """Prefect makes a `dict` of a configuration: Python takes an object with an attribute `keys` for a mapping."""
    classes = settings_classes()
    assert PipelineConfig in classes
    assert not [f"{each.__name__}.{name}" for each in classes for name in each.model_fields if hasattr(dict, name)]
