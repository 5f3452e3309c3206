"""Scores: which answers count as equal, in English and in Chinese, and the report by class."""

from __future__ import annotations

import pytest

from tasks.evaluate.class_report import OTHER, report_classes
from tasks.scoring.metrics import is_exact_match, token_f1
from tasks.scoring.score import score_answer


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("sport", "sport"),
        ("Sport.", "sport"),
        ("  SPORT !\n", "sport"),
        ("体育", "体育"),
        ("体育。", "体育"),
        ("体育！", "体育"),
        ("ｓｐｏｒｔ．", "sport"),
        ("它叫\u3000北京。", "它叫 北京"),
        ("the  two\nwords…", "the two words"),
        ("?", "？"),
    ],
)
def test_case_width_space_and_final_punctuation_do_not_matter(answer: str, target: str) -> None:
    assert is_exact_match(answer, target)


@pytest.mark.parametrize(
    ("answer", "target"), [("", "sport"), ("sports", "sport"), ("C", "C#"), ("!", "?"), ("体", "体育")]
)
def test_other_answers_are_wrong(answer: str, target: str) -> None:
    assert not is_exact_match(answer, target)


@pytest.mark.parametrize(
    ("answer", "target", "score"),
    [
        ("the capital is Paris", "Paris", 2 / 5),
        ("首都是北京", "北京", 4 / 7),
        ("北京", "北京。", 1.0),
        ("北京 上海", "上海，北京", 1.0),  # a bag of tokens, as in SQuAD
        ("no no no", "no", 0.5),
        ("东京", "北京", 0.5),
        ("Tokyo", "Beijing", 0.0),
        ("", "Paris", 0.0),
        ("", "", 1.0),
        ("!!!", "...", 0.0),
        ("😀", "😀", 1.0),
    ],
)
def test_token_f1_counts_what_is_shared(answer: str, target: str, score: float) -> None:
    assert token_f1(answer, target) == pytest.approx(score)
    assert token_f1(target, answer) == pytest.approx(score)


def test_a_chinese_answer_that_is_half_right_is_not_all_wrong() -> None:
    """White space would make one token of it, and F1 would be 0."""
    assert 0.5 < token_f1("中国的首都是上海", "中国的首都是北京") < 1


def test_the_kind_of_the_family_chooses_the_score() -> None:
    assert score_answer("classification", "sport news", "sport").score == 0.0
    assert score_answer("qa", "sport news", "sport").score == pytest.approx(2 / 3)
    assert score_answer("free", "sport news", "sport").score == pytest.approx(2 / 3)


def test_the_class_report_counts_answers_that_are_not_labels_as_other() -> None:
    targets = ["sport", "sport", "tech", "体育"]
    classes = report_classes(["Sport.", "I do not know", "sport", "体育。"], targets)
    assert classes.labels == ["sport", "tech", "体育"]
    assert classes.rows == [2, 1, 1]
    assert classes.confusion == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0]]
    assert classes.precision == [0.5, 0.0, 1.0]
    assert classes.recall == [0.5, 0.0, 1.0]
    assert classes.macro_f1 == pytest.approx((0.5 + 0 + 1) / 3)
    assert OTHER not in classes.labels


def test_macro_f1_gives_a_rare_class_the_weight_of_a_frequent_one() -> None:
    targets = ["spam"] * 2 + ["ham"] * 98
    assert report_classes(["ham"] * 100, targets).macro_f1 < 0.5


def test_labels_that_differ_in_spelling_only_are_one_class() -> None:
    assert report_classes(["sport"] * 2, ["Sport", "sport"]).labels == ["Sport"]


def test_test_rows_of_one_class_have_a_report() -> None:
    report = report_classes(["体育", "no idea", "体育"], ["体育"] * 3)
    assert (report.labels, report.rows, report.confusion) == (["体育"], [3], [[2, 1]])
    assert (report.macro_f1, report.weighted_f1) == pytest.approx((0.8, 0.8))


def test_no_rows_make_an_empty_report() -> None:
    assert report_classes([], []).macro_f1 == 0.0
