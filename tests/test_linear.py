"""What cleaning, masking, measuring and reading a text cost is in proportion to its length, whatever stands in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tasks.build import paraphrase, prompts, refusals
from tasks.curate.cleaning import quality
from tasks.curate.cleaning.clean_row import clean_row
from tasks.curate.dedup.minhash import fingerprints_of, shingles_of
from tasks.curate.dedup.tokens import tokenise
from tasks.expression import measure
from tasks.pii import mask
from tasks.records import segmentation
from tasks.records.strict_json import StrictDecoder
from tasks.scoring import answer_parsers
from tasks.scoring.answer_loops import ends_in_loop
from tasks.scoring.answer_text import normalise_answer
from tasks.scoring.answer_tokens import answer_tokens
from tasks.scoring.degenerate_answers import degenerate_reason
from tasks.validate.measures import mojibake

SHORT, LONG = 3_000, 12_000
CHEAP_SECONDS = 0.08
"""What a text of LONG characters may cost without a second look: 300,000 then take two seconds."""
MOST_TIMES = 8
"""How much more a text of four times the length may cost; four is linear, sixteen quadratic."""

OPENS = " x@b.co 1.2.3.4 :1:1a =aaaaaaaaaaaaaaaa eyJ_ghp_ -----BEGIN earer +1234567 <b> &amp; ** Task \n"
"""What lets every pattern behind a cheap first look be tried."""

REPEATED = (
    *(" ", "\t", "\n", "\n ", " \n", "\r\n", "\u3000", "a", "ab ", "a.", "a@", "a@b.", "a@b.co ", "@", "1", "1-1-1"),
    *("1 ", "(", ")", "(1", "[", "{", "<", "<p ", "<br", " <br", "</p", "<|", "&", "&#1", "&amp", "http://", "://"),
    *("中", "中文。", "中a", "か", "한", "\u200b", "\u0301", "\u0301\u0323", "e\u0301", "\u0f77\u0f81", "\ufdfa"),
    *("İ", "\\", "\\n", "\"", "'", "a'", "`", "```", "```\n", "<tool_call>", "QUJD", "aA1+/", "eyJhbGciOiJI."),
    *("-----BEGIN ", "-----BEGIN A", "A ", "Bearer ", "Bearer  ", "token: ", "api_key", "=", "sk-", "AKIA", "ghp_"),
    *("xoxb-", ":", "1:", "::1 ", "a:b:", "phone ", "tel: 1", "tel 1234567", "手机号码是 ", "+1", "+1 "),
    *("+12025550100", "+1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 ", "4111 1111 1111 1111 ", "GB82WEST12345698765432"),
    *("GB82 WEST 1234 5698 ", "1.1.1.1 ", "10.1.1.1.", "a@b.co_", "13800138000 ", "１", "ａ＠", "锟斤拷", "Ã©"),
    *("浣犲ソ", "|", "a | b | c\n", "r(a, b)\n", "- ", "Task 1: ", "\nTask ", "\n1. ", "\nExample 1", "\nExample 1 "),
    *("Example", "\nInput:", "Output: x\n", "\nuser\n", "a\n\n\t", "任务1：", "{\"a\":", "[{", "[]"),
)  # fmt: skip


def row(output: str) -> dict[str, Any]:
    empty = dict.fromkeys(("system", "instruction", "input", "rejected", "tools", "source", "family"), "")
    return {**empty, "history": "[]", "language": "en", "output": output}


def column(of: Callable[[pa.Array], object]) -> Callable[[str], object]:
    return lambda given: of(pa.array([given]))


def sketch(given: str) -> object:
    tokens = tokenise([given])
    return shingles_of(tokens), fingerprints_of(tokens)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "cleaning": lambda given: clean_row(row(given)),
    "personal data": mask.find,
    "quality": lambda given: quality.measure(row(given)),
    "segments": segmentation.segment,
    "normalised": segmentation.normalise,
    "language": segmentation.language_of,
    "sketch": sketch,
    "mojibake": mojibake.mojibake_runs,
    "count of segments": column(measure.segments_of),
    "damage, by RE2": column(lambda texts: pa.compute.match_substring_regex(texts, mojibake.pattern_of_damage())),
    "tokens of an answer": answer_tokens,
    "a plain answer": normalise_answer,
    "loops": lambda given: ends_in_loop(given, given[:1000]),
    "degenerate answers": lambda given: degenerate_reason(given, "The target.", "What is it? 这是什么？"),
    "code": answer_parsers.parse_code,
    "entities": answer_parsers.parse_entities,
    "triples": answer_parsers.parse_triples,
    "calls": answer_parsers.parse_calls,
    "tasks": prompts.parse_tasks,
    "examples": lambda given: prompts.parse_instances(given, label_first=False),
    "labelled examples": lambda given: prompts.parse_instances(given, label_first=True),
    "a new instruction": lambda given: refusals.refuse_instruction(f"x{given}", "en"),
    "a paraphrase": lambda given: paraphrase.clean_text(given, "x"),
    "JSON": lambda given: StrictDecoder().decode(given),
}


def cpu_seconds(function: Callable[[str], object], given: str) -> float:
    start = time.process_time()
    function(given)
    return time.process_time() - start


def of_length(part: str, characters: int) -> str:
    return (part * (characters // len(part) + 1))[:characters]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_four_times_the_text_takes_no_more_than_some_four_times_the_time(name: str) -> None:
    function = FUNCTIONS[name]
    function(OPENS * 3)  # what is loaded or counted once
    slow = []
    for part in REPEATED:
        for before, after in (("", OPENS), (OPENS, "!")):
            long = cpu_seconds(function, f"{before}{of_length(part, LONG)}{after}")
            if long <= CHEAP_SECONDS:
                continue
            short = min(cpu_seconds(function, f"{before}{of_length(part, SHORT)}{after}") for _ in range(2))
            if long > MOST_TIMES * short:  # once more: the machine may have been at something else
                long = cpu_seconds(function, f"{before}{of_length(part, LONG)}{after}")
            if long > MOST_TIMES * short:
                slow.append(f"{part!r}: {short:.2f} s, four times as much {long:.2f} s")
    assert slow == []


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cleaning", f"<b>{' ' * 300_000}x"),
        ("cleaning", f"{' ' * 300_000}<p"),
        ("personal data", "+1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 " * 9_400),
        ("personal data", "+12025550100" * 8_000),
        ("personal data", "GB82WEST12345698765432" * 4_000),
        ("normalised", "a" + "\u0301\u0323" * 75_000),
        ("segments", "a" + "\u0301\u0323" * 75_000),
        ("tasks", "\n" * 300_000 + "x"),
        ("JSON", "{" + ",".join(f'"{place}":1' for place in range(30_000)) + ',"z":1,"z":1}'),
    ],
    ids=lambda value: re.sub(r"\W+", "_", value[:24]),
)
def test_text_made_to_be_slow_takes_seconds_at_most(name: str, given: str) -> None:
    assert cpu_seconds(FUNCTIONS[name], given) < 6


def test_finds_that_free_one_another_one_by_one_are_all_masked() -> None:
    for one, kind in (("+12025550100", "PHONE"), ("GB82WEST12345698765432", "IBAN")):
        result = mask.find(one * 300)
        assert mask.mask(one * 300, result).count(f"[{kind}]") == 300


def test_marks_in_any_order_come_out_as_the_library_puts_them() -> None:
    import unicodedata

    marks = "\u0301\u0323\u0344\u0f77\u0f81\u09cb\u0c48"
    for times in (1, 9, 40):
        given = f"é{marks * times}a{marks[::-1] * times}か\u3099"
        assert segmentation.nfkc(given) == unicodedata.normalize("NFKC", given)


def test_blanks_before_a_line_break_go_with_it_as_before() -> None:
    given = row("a \t<br/> \t<br> <p>b</p>  \n  <br>c<b>!</b>")
    assert clean_row(given).row["output"] == "a\n\nb\n\nc!"
