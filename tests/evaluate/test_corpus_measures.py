"""Measures by kind, beside the score: the values of sacreBLEU, of SQuAD's script and of scikit-learn."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sklearn.metrics import accuracy_score, f1_score

from tasks.evaluate.class_report import report_classes
from tasks.evaluate.predictions import score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.calibration import expected_calibration_error, highest_probability
from tasks.scoring.call_measures import call_measures
from tasks.scoring.corpus_metrics import corpus_bleu, corpus_chrf, summary_measures
from tasks.scoring.squad import squad_measures, squad_tokens

ENGLISH = (
    ["The cat is on the mat.", "There is a cat here, isn't it?", "It costs 1,000.50 - or so."],
    ["The cat sat on the mat.", "There is a cat on it, isn't there?", "It costs 1,000.5 dollars - at most."],
)
CHINESE = (
    ["我在北京的大学学习。", "今天的天气很好，我们去公园吧！", "他用Python写了3.5个程序"],
    ["我在北京大学学习。", "今天天气很好，我们去公园散步吧！", "他用Python写了3个程序。"],
)


@pytest.mark.parametrize(
    ("texts", "bleu", "chrf"),
    [(ENGLISH, 30.237982798524506, 57.816140259197724), (CHINESE, 65.39472923087865, 65.15438928840699)],
)
def test_bleu_and_chrf_of_a_corpus_are_those_of_sacrebleu(texts: Any, bleu: float, chrf: float) -> None:
    """sacreBLEU 2.6.0: BLEU() for English and BLEU(tokenize="zh") for Chinese, CHRF() for both."""
    assert corpus_bleu(*texts) == pytest.approx(bleu, abs=1e-9)
    assert corpus_chrf(*texts) == pytest.approx(chrf, abs=1e-9)


@pytest.mark.parametrize("texts", [["A dog runs in the park."], ["一只狗在公园里奔跑。"]])
def test_equal_texts_have_100_and_texts_without_a_common_token_0(texts: list[str]) -> None:
    assert corpus_bleu(texts, texts) == pytest.approx(100)
    assert corpus_chrf(texts, texts) == pytest.approx(100)
    assert corpus_bleu([""], texts) == corpus_chrf([""], texts) == corpus_bleu(["x"], texts) == 0


ROUGE = [
    ("the cat sat on the mat", "the cat lay on a mat", 0.666666667, 0.2),
    ("police killed the gunman", "police kill the gunman today", 0.666666667, 0.285714286),
    ("the the the", "the", 0.5, 0.0),
    ("nothing alike here", "other words entirely", 0.0, 0.0),
    ("警方击毙了枪手", "警察击毙枪手", 0.769230769, 0.363636364),
    ("天气很好", "今天天气很好", 0.8, 0.75),
]
"""Answer, target, and their ROUGE-1 and ROUGE-2 F1 by rouge-score 0.1.2; of Chinese with a tokenizer that splits characters."""


@pytest.mark.parametrize(("answer", "target", "one", "two"), ROUGE)
def test_rouge_is_that_of_rouge_score(answer: str, target: str, one: float, two: float) -> None:
    assert summary_measures([answer], [target]) == pytest.approx({"rouge_1": one, "rouge_2": two}, abs=1e-9)


def test_rouge_of_a_corpus_is_the_mean_of_its_pairs() -> None:
    answers, targets, ones, twos = map(list, zip(*ROUGE, strict=True))
    means = {"rouge_1": sum(ones) / len(ROUGE), "rouge_2": sum(twos) / len(ROUGE)}
    assert summary_measures(answers, targets) == pytest.approx(means, abs=1e-9)
    assert summary_measures([""], ["天气"]) == {"rouge_1": 0, "rouge_2": 0}


SQUAD = [
    ("The Denver Broncos", "Denver Broncos", True, 1.0),
    ("an apple, and the pear", "apple and a pear tree", False, 0.8571428571428571),
    ("1,000 people", "1000 people", True, 1.0),
    ("Santa Clara, California", "California", False, 0.5),
    ("well-known", "well known", False, 0.0),
    ("Théâtre d'Orsay", "the Theatre dOrsay", False, 0.5),
]
"""Answer, target, and their exact match and F1 by SQuAD's script evaluate-v1.1.py."""


@pytest.mark.parametrize(("answer", "target", "exact", "f1"), SQUAD)
def test_exact_match_and_f1_are_those_of_squads_script(answer: str, target: str, exact: bool, f1: float) -> None:
    measures = squad_measures([answer], [target])
    assert measures == {"squad_exact_match": float(exact), "squad_f1": pytest.approx(f1)}


def test_a_chinese_character_is_a_token_of_squads_f1() -> None:
    assert squad_tokens("“北京”，2008年的 Olympics。") == ["北", "京", "2008", "年", "的", "olympics"]
    assert squad_measures(["在北京"], ["北京。"]) == {"squad_exact_match": 0.0, "squad_f1": pytest.approx(0.8)}
    assert squad_measures(["", "", "a"], ["the", "x", "x"]) == {"squad_exact_match": 1 / 3, "squad_f1": 1 / 3}


CALL = '[{"arguments": {"city": "巴黎", "days": 2}, "name": "weather"}]'


@pytest.mark.parametrize(
    ("answer", "name", "arguments"),
    [
        ('{"name": "weather", "arguments": {"days": 2.0, "city": "巴黎"}}', 1, 1),
        ('{"name": "weather", "arguments": {"days": 3, "city": "巴黎"}}', 1, 0),
        ('{"name": "forecast", "arguments": {"days": 2, "city": "巴黎"}}', 0, 1),
        ('[{"name": "weather", "arguments": {}}, {"name": "weather", "arguments": {}}]', 0, 0),
        ("It is sunny.", 0, 0),
        ("", 0, 0),
    ],
)
def test_names_and_arguments_of_calls_are_measured_apart(answer: str, name: int, arguments: int) -> None:
    assert call_measures([answer], [CALL]) == {"name_accuracy": name, "arguments_accuracy": arguments}
    assert call_measures([answer, CALL], [CALL, CALL])["name_accuracy"] == (name + 1) / 2


def test_targets_that_are_no_calls_are_left_out() -> None:
    assert call_measures([CALL], ["<call>weather</call>"]) == {}


def test_weighted_f1_and_accuracy_are_those_of_scikit_learn() -> None:
    labels, draw = ["sport", "体育", "politics", "科技"], random.Random(3)
    targets = draw.choices(labels, weights=[8, 4, 2, 1], k=300)
    answers = [target if draw.random() < 0.6 else draw.choice([*labels, "no label"]) for target in targets]
    classes = report_classes(answers, targets)
    for average, ours in (("weighted", classes.weighted_f1), ("macro", classes.macro_f1)):
        theirs = f1_score(targets, answers, average=average, labels=labels, zero_division=0.0)
        assert ours == pytest.approx(theirs, abs=1e-12)
    fixed = {"batch": "b", "family": "topic", "kind": "classification", "language": "en", "prompt": "p"}
    test = [{"row_id": str(number), "target": target, **fixed} for number, target in enumerate(targets)]
    measured = describe_model(score_rows(test, answers), EvaluateSettings(bootstrap_samples=100))["families"]["topic"]
    assert measured["accuracy"] == pytest.approx(accuracy_score(targets, answers), abs=1e-6)
    assert measured["weighted_f1"] == pytest.approx(classes.weighted_f1, abs=1e-5)
    assert "ece" not in measured


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    assert expected_calibration_error([0.9, 0.92, 0.5], [True, False, True]) == pytest.approx((0.82 + 0.5) / 3)
    assert expected_calibration_error([0.8] * 10, [True] * 8 + [False] * 2) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 4, [True, True, True, False]) == pytest.approx(0.25)
    draw = random.Random(5)
    confidence = [draw.random() for _ in range(2000)]
    is_correct = [draw.random() < share**2 for share in confidence]
    error = 0.0
    for low in range(15):  # the definition, bin by bin
        members = [(p, c) for p, c in zip(confidence, is_correct, strict=True) if low / 15 < p <= (low + 1) / 15]
        accuracy, mean = sum(c for _, c in members) / len(members), sum(p for p, _ in members) / len(members)
        error += len(members) / 2000 * abs(accuracy - mean)
    assert expected_calibration_error(confidence, is_correct) == pytest.approx(error)
    assert error > 0.1


def test_the_probability_of_a_label_is_that_of_the_softmax() -> None:
    assert highest_probability([1000.0, 1000.0]) == 0.5
    assert highest_probability([0.0]) == 1.0
    assert highest_probability([float("nan"), 1.0]) is highest_probability([float("inf"), 0.0]) is None


def test_the_report_has_the_measures_of_each_kind() -> None:
    fixed = {"batch": "b", "language": "en", "prompt": "p"}
    test = [
        {"row_id": "1", "family": "qa", "kind": "qa", "target": "The Denver Broncos", **fixed},
        {"row_id": "2", "family": "translation", "kind": "translation", "target": ENGLISH[1][0], **fixed},
        {"row_id": "3", "family": "tools", "kind": "tool_calls", "target": CALL, **fixed},
        {"row_id": "4", "family": "tools", "kind": "free", "target": "It is sunny.", **fixed},
    ]
    rows = score_rows(test, ["Denver Broncos", ENGLISH[0][0], CALL, "It is."])
    families = describe_model(rows, EvaluateSettings(bootstrap_samples=100))["families"]
    assert (families["qa"]["squad_exact_match"], families["qa"]["squad_f1"]) == (1, 1)
    assert families["translation"]["chrf"] == pytest.approx(corpus_chrf(ENGLISH[0][:1], ENGLISH[1][:1]), rel=1e-5)
    assert 0 < families["translation"]["bleu"] < 100
    assert (families["tools"]["name_accuracy"], families["tools"]["arguments_accuracy"]) == (1, 1)
