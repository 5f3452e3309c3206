"""What people write on the page of a version stays, and Strop's parts of it are checked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.model_store.approvals import with_approvals
from tasks.model_store.description import BEGIN, END, is_intact, people_wrote, with_page
from tasks.register.version_page import describe
from tasks.tracking.version_links import with_addresses

PAGE = "**It passed the gate**\n\n| a | b |\n| --- | --- |\n\n[receipt](run:receipt.json) · [模型卡](run:README.md)"
HERE = with_addresses(PAGE, "7", "abc")
APPROVALS = ["promoted by ada on 2026-11-21: 好", "rolled back by ada on 2026-11-22: better"]


@pytest.mark.parametrize("note", ["Use it for 中文 only.", "See [the ticket](https://host/1).\n\n- a\n- b"])
@pytest.mark.parametrize("earlier", [with_page("", HERE), HERE, with_addresses(PAGE, "6", "lost"), PAGE])
def test_a_note_below_or_above_the_page_stays_when_the_page_is_written_again(earlier: str, note: str) -> None:
    for description in (f"{earlier}\n\n{note}", f"{note}\n\n{earlier}"):
        text = with_page(with_approvals(description, APPROVALS), HERE)
        assert text.count("**It passed the gate**") == 1
        assert note in text
        assert (is_intact(text, HERE, APPROVALS), people_wrote(text, HERE)) == (True, True)
        assert with_page(text, HERE) == text


def test_a_change_of_the_page_is_found_and_repaired_and_the_note_stays() -> None:
    changed = with_page("Checked by hand.", HERE).replace("passed", "refused")
    assert not is_intact(changed, HERE, [])
    repaired = with_page(changed, HERE)
    assert is_intact(repaired, HERE, [])
    assert "refused" not in repaired
    assert "Checked by hand." in repaired


def test_a_page_that_a_person_replaced_comes_back_and_the_text_stays() -> None:
    text = with_page("只用于新闻。", HERE)
    assert text == f"{BEGIN}\n{HERE}\n{END}\n\n只用于新闻。"
    assert is_intact(text, HERE, [])
    assert not is_intact("只用于新闻。", HERE, [])


def test_an_approval_that_the_ledger_lacks_or_a_second_page_is_found() -> None:
    page = with_page("", HERE)
    for description in (page, HERE):
        assert not people_wrote(with_approvals(description, APPROVALS), HERE)
    assert is_intact(with_approvals(page, APPROVALS[:1]), HERE, APPROVALS)
    assert not is_intact(with_approvals(page, ["promoted by eve on 2026-11-21: x"]), HERE, APPROVALS)
    assert not is_intact(with_approvals(page, APPROVALS), HERE, [])
    assert not is_intact(page + page.replace("passed", "refused"), HERE, [])


@pytest.mark.parametrize("note", [f"Strop begins with {BEGIN}.", "Ends: <!-- strop:approval --> 好"])
def test_a_marker_that_a_person_typed_above_the_page_begins_no_part(note: str) -> None:
    text = with_approvals(f"{note}\n\n{with_page('', HERE)}", APPROVALS)
    assert is_intact(text, HERE, APPROVALS)
    again = with_page(with_approvals(text, APPROVALS), HERE.replace("passed", "refused"))
    assert again == text.replace("passed", "refused")


def test_only_a_page_that_is_not_there_is_written() -> None:
    version = SimpleNamespace(run_id="abc", description="A note.")
    written: list[str] = []

    def describe_version(number: int, text: str) -> None:
        written.append(text)
        version.description = text

    registry: Any = SimpleNamespace(
        experiment_id="7", version=lambda number: version, describe_version=describe_version
    )
    describe(registry, 1, PAGE)
    describe(registry, 1, PAGE)
    assert written == [f"{BEGIN}\n{HERE}\n{END}\n\nA note."]
