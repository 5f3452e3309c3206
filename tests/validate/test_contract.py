"""The contract is parsed strictly: all errors at once, each with its line and the nearest valid key."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.project import REPOSITORY

from tasks.errors import ConfigError
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.load_contract import load_contract


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "contract.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_contract_that_we_ship_is_good_and_names_its_families() -> None:
    contract = load_contract(REPOSITORY / "data/contract/contract.yaml")
    assert set(contract.families) == {"topic", "sentiment", "intent", "qa", "instruction", "dialogue"}
    assert contract.of("topic").max_label_characters == 64
    assert contract.of("instruction").max_label_characters is None
    assert contract.of("something else") == contract.all


def test_every_rule_that_the_contract_can_set_is_explained_in_the_file() -> None:
    text = (REPOSITORY / "data/contract/contract.yaml").read_text(encoding="utf-8")
    assert [name for name in FamilyContract.model_fields if name not in text] == []


def test_a_family_overrides_only_what_it_sets(tmp_path: Path) -> None:
    path = write(tmp_path, "all: {max_output_segments: 10}\nfamilies:\n  qa: {max_input_segments: 5}\n  topic:\n")
    contract = load_contract(path)
    assert contract.of("qa").max_output_segments == 10
    assert contract.of("qa").max_input_segments == 5
    assert contract.of("topic") == contract.all


def test_all_errors_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """\
all:
  max_output_segment: 5
  scripts:
    en: {script: Latn, min_share: 2}
    fr: {script: Latin, min_share: 0.5}
familie: {}
families:
  topic:
    labels: []
    min_input_segments: -1
  qa: 3
"""
    with pytest.raises(ConfigError) as caught:
        load_contract(write(tmp_path, text))
    message = str(caught.value)
    for expected in (
        "line 2: `all.max_output_segment` is not a rule; did you mean `max_output_segments`?",
        "line 4: `all.scripts.en.script` is \"Latn\", but should be 'Latin', 'Han'",
        "line 4: `all.scripts.en.min_share` is 2, but should be less than or equal to 1",
        "line 6: `familie` is not a part of a contract; did you mean `families`?",
        "line 10: `families.topic.min_input_segments` is -1",
        "line 11: `families.qa` should be a mapping",
    ):
        assert expected in message
    assert "Traceback" not in message


def test_bounds_that_contradict_each_other_are_reported(tmp_path: Path) -> None:
    text = "all: {min_input_segments: 9}\nfamilies:\n  qa:\n    max_input_segments: 5\n"
    with pytest.raises(
        ConfigError, match=r"`families\.qa`: min_input_segments \(9\) is above max_input_segments \(5\)"
    ):
        load_contract(write(tmp_path, text))
    with pytest.raises(ConfigError, match="labels is an empty list"):
        load_contract(write(tmp_path, "families: {topic: {labels: []}}"))


def test_a_missing_or_broken_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not found\. Restore it: git checkout"):
        load_contract(tmp_path / "contract.yaml")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_contract(write(tmp_path, "all: ["))
    with pytest.raises(ConfigError, match="it should be a mapping with `all:` and `families:`"):
        load_contract(write(tmp_path, "- a"))
