"""Custom rules: read from all files of the folder, errors with their line, and rows refused by the rule's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.toy_contract import alpaca, batch_of, judge, raw_of, reasons, refuse

from tasks.errors import ConfigError
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.load_contract import load_contract
from tasks.validate.rules.rules import rules_of, sentence_of

RULES = """\
all:
  rules:
    - {name: no_urls, field: output, must_not_match: 'https?://'}
    - {name: polite, field: instruction, must_match: '^(Please|请)', description: Every instruction asks politely}
families:
  qa:
    rules:
      - {name: short_answer, expression: "length(output) <= 3 * length(instruction)"}
      - {name: polite, field: instruction, must_match: '[?？]$'}
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def errors_in(folder: Path, **files: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_contract(write(folder, **files))
    return str(caught.value)


def test_rows_are_refused_by_the_name_of_the_rule(tmp_path: Path) -> None:
    contract = load_contract(write(tmp_path, contract=RULES)).of("instruction")
    assert refuse(alpaca("fine", "Please do"), contract) is None
    assert refuse(alpaca("好的", "请说"), contract) is None
    assert refuse(alpaca("see http://a", "Please do"), contract) == ("no_urls", "output", "see http://a")
    assert refuse(alpaca("好的", "说"), contract) == ("polite", "instruction", "说")
    assert refuse(alpaca("", "说"), contract) == ("empty_output", "output", "")  # ours come first
    assert refuse(alpaca(3, "说"), contract) == ("wrong_type", "output", "3")


def test_a_family_adds_rules_and_puts_its_own_in_the_place_of_one_of_the_same_name(tmp_path: Path) -> None:
    contract = load_contract(write(tmp_path, contract=RULES)).of("qa")
    assert [rule.name for rule in contract.rules] == ["no_urls", "short_answer", "polite"]
    assert refuse(alpaca("Yes.", "Is it?"), contract) is None
    assert refuse(alpaca("是的，因为今天天气很好", "对吗？"), contract) == (
        "short_answer",
        "output",
        "是的，因为今天天气很好",
    )
    assert refuse(alpaca("Yes.", "Please do"), contract) == ("polite", "instruction", "Please do")


def test_bounds_in_characters_and_languages_hold_together_with_those_in_segments() -> None:
    contract = FamilyContract(min_output_characters=2, max_input_characters=5, languages=("zh",))
    assert refuse(alpaca("好的", "你好吗"), contract) is None
    assert refuse(alpaca(" 好 ", "你好吗"), contract) == ("output_few_characters", "output", " 好 ")
    assert refuse(alpaca("好的", "你好你好你好"), contract) == ("input_many_characters", "instruction", "你好你好你好")
    assert refuse(alpaca("Yes", "Hm?"), contract) == ("language_not_allowed", "language", "en")


def test_a_problem_that_no_rule_knows_is_refused_by_its_own_name() -> None:
    import pyarrow as pa

    from tasks.records.parse import to_rows
    from tasks.validate.judge import check_rules, decide, merge_chunks

    raw = raw_of([alpaca()])
    table = to_rows(raw, batch_of(raw))
    place = table.schema.get_field_index("problem")
    table = table.set_column(place, "problem", pa.array(["missing_image"]))
    verdict = decide(merge_chunks([check_rules(table, FamilyContract())], FamilyContract()), FamilyContract(), 1.0)
    assert verdict.reasons == ["missing_image"]
    assert verdict.facts.broken["no_row"] == 1


def test_rules_give_the_same_result_in_chunks_as_on_the_whole() -> None:
    contract = FamilyContract.model_validate_json('{"rules": [{"name": "short", "expression": "length(output) < 4"}]}')
    raw = raw_of([alpaca("a" * (number % 6), key=number % 4) for number in range(20)], columns={"id": "key"})
    whole = judge(raw, contract, 1.0, chunk=100)
    for chunk in (1, 3, 20):
        parts = judge(raw, contract, 1.0, chunk=chunk)
        assert reasons(parts) == reasons(whole)
        assert parts.facts == whole.facts
    assert {"short", "duplicate_id", "empty_output"} == {reason for reason, _, _ in reasons(whole)}


def test_every_error_is_reported_with_the_line_of_its_file(tmp_path: Path) -> None:
    text = """\
families:
  qa:
    rules:
      - name: short_answer
        expression: "length(output) <= 3 * lenght(input)"
      - {name: empty_output, field: output, must_match: 'a'}
      - {name: x, feld: output, must_match: 'a'}
      - {name: y, field: output, must_match: '('}
      - {name: y, field: output, must_match: 'a', must_not_match: 'b'}
      - {name: Z, field: title, must_match: 'a'}
      - {name: w, field: input, expression: "input == 'a'"}
  topic: {}
"""
    message = errors_in(tmp_path, a=text, b="families:\n  topic:\n    languages: [fr]\n")
    for expected in (
        "a.yaml line 5: `families.qa.rules.0.expression`: `lenght` is not a function",
        "a.yaml line 6: rule `empty_output` has the name of a built-in rule",
        "a.yaml line 7: `families.qa.rules.2.feld` is not a rule; did you mean `field`?",
        "a.yaml line 8: `families.qa.rules.3.must_match`: not a regular expression: missing )",
        "a.yaml line 9: `families.qa.rules.4`: it needs one of must_match, must_not_match and expression",
        "a.yaml line 9: rule `y` is defined twice",
        'a.yaml line 10: `families.qa.rules.5.name` is "Z"',
        'a.yaml line 10: `families.qa.rules.5.field` is "title"',
        "a.yaml line 11: `families.qa.rules.6`: an expression names its columns itself",
        "b.yaml line 2: `families.topic` is defined in a.yaml line 12 already; keep one of them",
        "b.yaml line 3: `families.topic.languages.0` is \"fr\", but should be 'en', 'zh' or 'mixed'",
    ):
        assert expected in message


def test_an_error_in_all_is_reported_once(tmp_path: Path) -> None:
    message = errors_in(tmp_path, a="all:\n  rules:\n    - {name: x, field: output}\nfamilies: {qa: {}, topic: {}}\n")
    assert "1 error:" in message
    assert "line 3: `all.rules.0`: it needs one of" in message


def test_the_line_of_a_familys_rule_is_its_own_though_all_has_rules_too(tmp_path: Path) -> None:
    text = RULES + "      - {name: late, field: output}\n"
    assert "line 10: `families.qa.rules.2`: it needs one of" in errors_in(tmp_path, a=text)


def test_the_files_of_the_folder_are_one_contract(tmp_path: Path) -> None:
    contract = load_contract(write(tmp_path, a="all: {max_output_segments: 9}\n", b="families: {qa: {}}\n", c="\n"))
    assert contract.of("qa").max_output_segments == 9
    assert "`all` is defined in a.yaml line 1 already" in errors_in(tmp_path, d="all: {}\n")


def test_custom_rules_have_a_sentence_for_people(tmp_path: Path) -> None:
    contract = load_contract(write(tmp_path, contract=RULES)).all
    text = {rule.code: sentence_of(rule, contract) for rule in rules_of(contract)}
    assert text["no_urls"] == "The output does not match https?://"
    assert text["polite"] == "Every instruction asks politely"
    braces = FamilyContract.model_validate_json('{"rules": [{"name": "x", "field": "output", "must_match": "a{2}"}]}')
    assert sentence_of(next(r for r in rules_of(braces) if r.code == "x"), braces) == "The output matches a{2}"
