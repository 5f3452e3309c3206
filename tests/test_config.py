"""params.yaml: all mistakes at once, each with its line, the value, what is allowed and the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import REPOSITORY, params, write_params

from tasks.config import PipelineConfig, load_config
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


def test_all_mistakes_are_told_at_once_with_line_value_and_what_is_allowed(tmp_path: Path) -> None:
    told = mistakes(tmp_path, WRONG)
    assert "7 mistakes" in told
    for line in (
        "line 1: `promote` is missing",
        'line 4: `ingest.sources.0.name` is "A b"',
        "line 4: `ingest.sources.0.shape` is \"alpca\", but should be 'alpaca'",
        "line 5: `validate.max_refused_shre` is no setting; did you mean `max_refused_share`?",
        "line 6: `curate`: valid_share and test_share together leave nothing to train on",
        'line 9: `finetune.learning_rate` is "fast", but should be a valid number',
        "line 10: `finetune.epohcs` is no setting; did you mean `epochs`?",
    ):
        assert line in told, told


def test_a_file_that_is_no_yaml_is_told_with_its_place(tmp_path: Path) -> None:
    assert "not readable as YAML" in mistakes(tmp_path, "base: [1, 2\nx")
    assert "holds no sections" in mistakes(tmp_path, "")


def test_a_missing_file_is_told_with_the_command_that_makes_one(tmp_path: Path) -> None:
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
    from tasks.config import settings_within

    found: list[tuple[str, str | None]] = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        path = f"{prefix}{field.alias or name}"
        found.append((path, field.description))
        if inner := settings_within(field.annotation):
            found += fields(inner, f"{path}.")
    return found


def test_every_setting_is_explained_under_its_field() -> None:
    assert [path for path, description in fields(PipelineConfig) if not description] == []


def test_the_reference_page_is_the_one_that_the_docstrings_give() -> None:
    from flows.reference import reference

    assert (REPOSITORY / "docs/settings.md").read_text(encoding="utf-8") == reference(), "run: make docs"


def test_the_reference_names_every_value_of_a_setting_that_has_a_list_of_them() -> None:
    from flows.reference import reference

    lines = {line.split("`")[1]: line for line in reference().splitlines() if line.startswith("| `sources[]")}
    assert all(
        f"`{value}`" in lines["sources[].format"] for value in ("jsonl", "parquet", "conll", "parallel", "semeval")
    )
    assert all(f"`{value}`" in lines["sources[].text_unit"] for value in ("line", "document"))
    assert lines["sources[].language"].endswith("One of `auto`, `en`, `zh`. |") or "`zh`" in lines["sources[].language"]
