"""The page and the picture of an explanation: its numbers, and that nothing in a row can act in it."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.erasing import SECRET

from flows.report.explanation.page import render
from flows.report.explanation.picture import picture, shortened
from flows.report.explanation.terminal import explanation_page
from tasks import paths
from tasks.erase.plan import Plan
from tasks.erase.stage import _clear_outputs
from tasks.explain.explanation import AnswerPiece, Attribution, Explanation, Span
from tasks.runtime.console import VisibleConsole

HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>" onmouseover="alert(3) {{ 7*7 }} $x$ &amp; \u202eevil'


def explanation(text: str = "法国", answers: bool = True) -> Explanation:
    answer = [AnswerPiece(text, 0.5, (0,)), AnswerPiece(" ⏎ end", 0.9, (1,), is_end=True)] if answers else []
    spans = [
        Span(text, 1.25, (1.0, 0.25) if answers else ()),
        Span("，"),
        Span("little", -0.5, (0.0, -0.5) if answers else ()),
    ]
    return Explanation(
        subject=text,
        model="champion v2",
        facts={"weights": "d" * 64, "base": text},
        method="occlusion",
        settings={"passes": "200"},
        output=text,
        target=text,
        attributions=[Attribution(text, {text: spans}, {"steps": text}, [Span(text, 2.0)], warning=text)],
        answer=answer,
        notes=[text],
    )


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.mark.parametrize("answers", [True, False], ids=["answer", "head"])
def test_no_text_of_a_row_is_markup_or_script(answers: bool) -> None:
    page = render(explanation(HOSTILE, answers))
    elements = Elements(page).elements
    assert not {"script", "img", "iframe", "link", "object", "base"} & {tag for tag, _ in elements}
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in page
    assert "\u202e" not in page
    assert "{{ 7*7 }}" in page


def test_a_hostile_text_is_text_in_the_picture() -> None:
    text = picture(explanation(HOSTILE))
    tree = ElementTree.fromstring(text)
    assert {element.tag.rpartition("}")[2] for element in tree.iter()} == {"svg", "style", "rect", "text", "g", "line"}
    assert "\u202e" not in text


def test_the_page_shows_shares_probabilities_the_model_and_a_caution() -> None:
    page = render(explanation())
    for words in (
        "+1.2500",
        "-0.5000",
        "50.0 %",
        "d" * 64,
        "champion v2",
        "Attribution is not cause",
        "How to read it",
    ):
        assert words in page
    assert "prefers-color-scheme: dark" in page
    assert page == render(explanation())
    console = VisibleConsole(width=100, record=True, file=io.StringIO())
    console.print(explanation_page(explanation()))
    assert "+1.250  法国" in console.export_text()


def test_an_answer_without_text_is_shown_as_nothing() -> None:
    console = VisibleConsole(width=100, record=True, file=io.StringIO())
    console.print(explanation_page(replace(explanation(), output=" \n")))
    assert "output  (nothing)" in console.export_text()


@pytest.mark.parametrize(
    ("text", "short"), [("短文", "短文"), ("很长的一段中文", "很长的一…"), ("a longer text", "a longer…")]
)
def test_a_long_text_is_shortened_to_its_columns(text: str, short: str) -> None:
    assert shortened(text, 9) == short


def test_an_erasure_removes_all_explanations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = paths.EXPLANATIONS / "v2" / "row.html"
    page.parent.mkdir(parents=True)
    page.write_text(SECRET, encoding="utf-8")
    _clear_outputs(Plan([], [], [], [], [], "", "", ""))
    assert not paths.EXPLANATIONS.exists()
