"""Cleaning never changes the meaning of a text: what is removed, what is kept, and that every removal is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.curate.cleaning.clean_row import clean_row
from tasks.curate.cleaning.row_texts import texts_of
from tasks.curate.filters import judge_row
from tasks.curate.settings import CurateSettings
from tasks.pii.edits import apply
from tasks.records.row import NO_TEXT
from tasks.records.segmentation import segment


def row(**fields: Any) -> dict[str, Any]:
    if "history" in fields and not isinstance(fields["history"], str):
        fields["history"] = json.dumps(fields["history"], ensure_ascii=False, separators=(",", ":"))
    return {"family": "qa", "language": "en", **NO_TEXT, **fields}


def cleaned(answer: str, question: str = "Where is it?", **fields: Any) -> str:
    return str(clean_row(row(input=question, output=answer, **fields)).row["output"])


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("Answer<|endoftext|>", "Answer"),
        ("回答。</s>", "回答。"),
        ("Answer </s>\n<|im_end|>\n", "Answer"),
        ("One text.<|endoftext|>Another.", "One text.\nAnother."),
        ("a\x00b\x07c", "abc"),
        ("\x1b[31mred\x1b[0m ink", "red ink"),
        ("don\x92t \x93go\x94", "don’t “go”"),
        ("one<br/>two &amp; three", "one\ntwo & three"),
        ("<p>第一段</p><p>第二段</p>", "第一段\n第二段"),
        ("\x1b]0;title\x07text \x1b(Bplain\x1b[m", "text plain"),
        ("Answer<|return|>", "Answer"),
        ("回答<|eot|>\n", "回答"),
        ("intro<p>text</p><ul><li>a</li><li>b</li></ul>end", "intro\ntext\na\nb\n\nend"),
        ('It <b>lies</b> at <a href="/f?x=1&amp;y=2">a <i class=x>fjord</i></a>.', "It lies at a fjord."),
        ("5 &euro; &mdash; caf&eacute;", "5 € — café"),
        ("R&amp;D, AT&amp;amp;T &quot;x&quot; &#39;y&#x27; 5&nbsp;m", "R&D, AT&T \"x\" 'y' 5 m"),
        (" \n An answer. \t\n", "An answer."),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("\ufeffAn answer", "An answer"),
    ],
)
def test_noise_is_removed(dirty: str, clean: str) -> None:
    assert cleaned(dirty) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("one\x0btwo", "one\ntwo"),
        ("one\x0ctwo", "one\ntwo"),
        ("one\x85two", "one\ntwo"),
        ("one\u2028two\u2029three", "one\ntwo\nthree"),
        ("one\x1ctwo\x1ethree\x1ffour", "one\ntwo\nthree four"),
        ("one\u200btwo", "one two"),
        ("one.\u200bTwo", "one. Two"),
        ("one \u200btwo\u200b three\u200b, four", "one two three, four"),
        ("one\ufeff\u200b\u200btwo", "one two"),
        ("中\u200b文，a\u200b中", "中文，a中"),
        ("co\u2060op", "coop"),
        ("www.\u200bexample.org/\u200bpath", "www.example.org/path"),
    ],
)
def test_separators_of_words_are_never_just_removed(text: str, clean: str) -> None:
    assert cleaned(text) == clean
    assert segment(clean) == segment(text.replace("\u2060", ""))


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👩\u200d👧 and 🏳️\u200d🌈",
        "می\u200cروم و کتاب\u200cها",
        "שלום \u200fabc\u200e!",
        "ไทย\u200bภาษา",
        "ខ្មែរ\u200bភាសា",
        "क्\u200dष",
        "soft\u00adhyphen",
        "line one\nline two\tend",
        "５ ＜ ６　全角",
    ],
)
def test_what_belongs_to_a_script_or_an_emoji_stays(text: str) -> None:
    assert cleaned(text) == text


NO_MARKUP = [
    "Solve: for which x is x<a or x>b true?",
    "If i<b and b>0, what is i?",
    "Option<A> holds a value or nothing.",
    "Map<A> and List<B>",
    "a<b and c>d",
    "Option<i32>",
    "5 <b> 3",
    "a<p && p>q",
    "Vec<u>, Vec<u>",
    "5 < 6 and 7 > 3",
    "x <u and u> y, a<i>b",
    "<think>So it is.</think> Yes.",
    "<name>Bob</name> &amp; <b>Ann</b>",
    "Put <b> before it and </b> behind it.",
    "Write <b></b> there.",
    "It is `<b>bold</b>`, not “<i>”.",
    "<table><tr><td>1</td></tr></table>",
    "<b>not closed, <i>nor</b> in order</i>",
    "&lt;b&gt;written out&lt;/b&gt;",
    "I <3 you &amp; <b>her</b>",
    "{{ name }} &amp; <b>{{ more }}</b>",
    'for (i=0; i<n; i++) { s += "<b>" + x + "</b>"; }',
    "AT&T; fish &chips; &T;",
    "a &#0; b &#xD800; c",
    "x<sup>2</sup> and H<sub>2</sub>O, <del>not</del> &amp; <s>old</s>",
    "&foo; &Bar9; &lt",
    "<ol><li>one</li><li>two</li></ol>",
    "| a | b |\n|---|---|\n| 1<br>2 | x &amp; y |",
    "放在<b>和</b>之间",
    "Put it in <b>...</b>, please.",
]


@pytest.mark.parametrize("text", NO_MARKUP)
@pytest.mark.parametrize("field", ["input", "output", "rejected", "system", "instruction"])
def test_case_06_text_that_is_no_markup_stays(text: str, field: str) -> None:
    given_row = {"input": "Where?", "output": "There.", "rejected": "Here.", field: text}
    assert clean_row(row(**given_row)).row[field] == text


@pytest.mark.parametrize("text", NO_MARKUP[:8])
def test_case_06_one_text_that_is_no_markup_keeps_all_of_its_row(text: str) -> None:
    given_row = row(instruction=text, output="<b>It</b> &amp; that", history=[["user", "<i>a</i>"], ["assistant", "b"]])
    assert clean_row(given_row).row == given_row


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Write an HTML page", "<div><p>Hello</p></div>"),
        ("写一个网页", "<div><p>你好</p></div>"),
        ("How is text made bold?", "Like <b>this</b>, with &amp; for and."),
        ("怎样加粗文字？", "这样：<b>文字</b>"),
        ("Which tag strikes text out?", "<s>old</s>"),
        ("Wrap each name in i.", "<i>Bob</i> met <i>Ann</i>."),
        ("Which token ends a text of GPT-2?", "<|endoftext|>"),
        ("Which token ends a text of GPT-2?", "It is <|endoftext|>"),
        ("Which token ends a text of GPT-2?", "This one:<|endoftext|>"),
        ("GPT-2 的结束符是什么？", "<|endoftext|>"),
        ("What does the tokenizer add?", "It adds </s>"),
        ("Render this template", "{{ a }} &amp; <b>{{ b }}</b></s>"),
        ("What does <|im_end|> mean?", "A turn ends there. Hello<|im_end|>"),
        ("Is '</s>' one?", "Yes, it is: </s>"),
        ("Name the stop string of ChatML", "<|im_end|>"),
    ],
)
def test_a_row_about_markup_tokens_or_templates_keeps_them(question: str, answer: str) -> None:
    given_row = row(instruction=question, output=answer)
    assert clean_row(given_row).row == given_row
    as_turn = row(input="And?", output="So.", history=[["user", question], ["assistant", answer]])
    assert clean_row(as_turn).row == as_turn


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Answer like this: <b>your answer</b>. What is 1+1?", "<b>2</b>"),
        ("请这样回答：<i>你的答案</i>。一加一等于几？", "<i>二</i>。"),
        ('Which addresses are there? <a href="http://a.org/b?x=1&amp;y=2">one</a>', "http://a.org/b?x=1&y=2"),
        ('提取链接：<a href="http://a.org/b">点击这里</a>', "http://a.org/b"),
        ("Write SSML for it.", "<p>Hi</p>"),
        ("划出动词。", "他<u>跑</u>。"),
        ("Emphasize the verb.", "He <em>runs</em>."),
        ("What is U+200B?", "It is '\u200b'."),
        ("去掉零宽字符：a\u200bb", "ab"),
        ("Turn CRLF into LF: a\r\nb", "a\nb"),
        ("Remove the BOM: \ufeffhello", "hello"),
        ("Indent this by four spaces: foo", "    foo"),
        ("首行缩进两格：春天来了。", "\u3000\u3000春天来了。"),
        ("Go on:\nweb:", "  image: nginx"),
        ("续写：\nif x > 0:\n", "    y = 1"),
        ("Go on with the list:\n- a\n  - b\n", "  - c"),
        ("Go on:\nall: main.o", "\tgcc main.o"),
        ("", "  Some raw text\n"),
    ],
)
def test_a_row_that_works_with_tags_unseen_characters_or_white_space_keeps_them(question: str, answer: str) -> None:
    """Cases 06 and 08, their siblings."""
    given_row = row(instruction=question, output=answer)
    assert clean_row(given_row).row == given_row


def test_tags_of_a_page_go_also_where_prompt_and_answer_are_in_the_same() -> None:
    made = clean_row(
        row(input="<b>How is it?</b>", output='<b>Well, at <a href="http://a.org">http://a.org</a></b>')
    ).row
    assert (made["input"], made["output"]) == ("How is it?", "Well, at http://a.org")


@pytest.mark.parametrize(
    "question", ["He gave her a token of love. Who?", "Where does the llama live?", "请用这个模板写一封信。"]
)
@pytest.mark.parametrize("answer", ["No answer", "He did.", "没有"])
def test_a_marker_at_the_end_is_removed_though_a_word_of_the_row_may_mean_tokens(question: str, answer: str) -> None:
    assert clean_row(row(instruction=question, output=f"{answer}<|endoftext|>")).row["output"] == answer


def test_a_program_that_ends_in_a_marker_loses_it_and_no_line_end() -> None:
    assert cleaned("def f():\n    return 1\n<|endoftext|>\n", "Write a function f") == "def f():\n    return 1\n"


def test_markup_stays_where_the_settings_say_so() -> None:
    given_row = row(input="<b>Hello</b> &amp; you", output="<b>Bonjour</b> &amp; toi")
    assert clean_row(given_row, removes_markup=False).row == given_row
    assert judge_row(given_row, CurateSettings(markup="keep")).row == given_row
    assert judge_row(given_row, CurateSettings()).row["output"] == "Bonjour & toi"


DIRTY = "  It <b>lies</b> at\x0ba fjord\u200bthere &amp; here.\r\n</s>\n"
CLEAN = "It lies at\na fjord there & here."


def test_case_05_both_answers_are_cleaned_alike() -> None:
    made = clean_row(row(input="Where?", output=DIRTY, rejected=DIRTY.replace("It", "This"))).row
    assert (made["output"], made["rejected"]) == (CLEAN, CLEAN.replace("It", "This"))


@pytest.mark.parametrize("space", [" ", "\n", "\n    "])
def test_case_05_surrounding_white_space_is_removed_from_both_answers_or_from_neither(space: str) -> None:
    for question, better in (("Which?", "yes"), ("Write code", "x = 1;"), ("Go on", "    a\n    b")):
        made = clean_row(row(input=question, output=better + space, rejected=f"{space}no{space}")).row
        assert made["output"].endswith(space) == made["rejected"].endswith(space)


def test_case_05_every_text_of_a_row_is_cleaned_by_the_same_rules() -> None:
    roles = ("user", "assistant", "user", "assistant")
    names = ("system", "instruction", "input", "output", "rejected")
    made = clean_row(row(**dict.fromkeys(names, DIRTY), history=[[role, DIRTY] for role in roles])).row
    assert [made[name] for name in names] == [CLEAN] * 5
    assert json.loads(made["history"]) == [[role, CLEAN] for role in roles]


def test_case_05_tools_answers_are_cleaned_and_their_json_and_markup_stay() -> None:
    call = '[{"arguments":{"body":"<p>a\\u000bb</p>"},"name":"send"}]'
    answer = '{ "n": 1.0,\n "text": "<b>x</b>\\u200by\\r\\n" }'
    turns = [["user", "go\x00 on</s>"], ["tool_call", call], ["tool", answer], ["tool", "done </s>\n"]]
    made = clean_row(row(input="<b>And?</b>", output="Done.</s>", history=turns, tools='[{"name":"send"}]')).row
    assert (made["input"], made["output"]) == ("<b>And?</b>", "Done.")
    assert [text for _, text in json.loads(made["history"])] == [
        "go on",
        '[{"arguments":{"body":"<p>a\\nb</p>"},"name":"send"}]',
        '{ "n": 1.0,\n "text": "<b>x</b> y\\n" }',
        "done",
    ]


def test_case_08_prompt_and_answer_together_stay_a_program() -> None:
    question, answer = "Complete the function:\ndef area(r):\n", "    pi = 3.14159\n    return pi * r * r"
    made = clean_row(row(family="code", instruction=question, output=answer)).row
    assert (made["instruction"], made["output"]) == (question, answer)


@pytest.mark.parametrize(
    "fields",
    [
        {"output": "    indented = True\n    return indented\n"},
        {"output": "  A text that goes on\n\nin a book.\n"},
        {"input": "def area(r):\n", "output": "    pass\n"},
        {"instruction": "Recite it.", "output": "    The sea\n  is wide\n    and blue.\n"},
        {"instruction": "Make a diff.", "output": " same\n-old\n+new\n"},
        {"input": "Once upon a time there", "output": " lived an old king in his castle.\n"},
        {"input": "从前有一座", "output": " 山山里有一座庙。"},
        {"instruction": "Fix this Python.", "input": "\tif x:\n\t\ty()\n", "output": "\tif x :\n\t\ty()\n"},
        {"family": "code", "input": "a", "output": "  b\n  c\n", "rejected": "  c\n"},
    ],
)
def test_case_08_layout_is_kept_in_code_verse_raw_text_and_continuations(fields: dict[str, str]) -> None:
    assert clean_row(row(**fields)).row == row(**fields)


@pytest.mark.parametrize("answer", [" positive", "positive\n", "  non-fiction "])
def test_a_label_has_no_white_space_around_it_whatever_it_is_about(answer: str) -> None:
    assert cleaned(answer, "int main() { return 0; }") == answer.strip()


def test_strings_of_json_are_cleaned_with_the_text_that_they_quote() -> None:
    made = clean_row(
        row(family="entities", input="R&amp;D met\x0bBob", output='[{"type":"ORG", "text":"R&amp;D"}]')
    ).row
    assert (made["input"], made["output"]) == ("R&D met\nBob", '[{"type":"ORG", "text":"R&D"}]')


def test_what_went_is_counted_by_reason_and_piece() -> None:
    counts = clean_row(row(input="a\x0bb\x0bc", output=" <b>x</b> &amp; <b>y</b></s>", rejected="z</s>")).counts
    assert counts == {
        **dict.fromkeys(("control_characters", "markup", "end_markers", "white_space"), 1),
        "control_characters U+000B": 2,
        "markup <b>": 2,
        "markup </b>": 2,
        "markup &amp;": 1,
        "end_markers </s>": 2,
        "white_space U+0020": 1,
    }


PIECES = st.sampled_from(
    [
        *("<b>", "</b>", "<p>", "</p>", "<br>", "<a href='x'>", "</a>", "<i", ">", "<", "&amp;", "&lt;", "&gt;", "amp;", "&"),
        *("&#39;", "&nbsp;", "</s>", "<s>", "<|endoftext|>", "[EOS]", ".", " ", "  ", "\n", "\r", "\r\n", "\t", "\x0b"),
        *("\x92", "\x00", "\x85", "\x1b", "[31m", "\u200b", "\u200d", "\u200e", "\u2028", "\ufeff", "文", "ไ", "ש", "a", "code"),
        *("html", "token", "{", "}", '"', "[", "]", "\\u000b", "\\n", '["x\\u200by"]', "&lt;/s&gt;", "x;", "def f():", "    ", "1"),
        *("BOM", "\r\n", "indent", "<b>...</b>", "\n| ", '<a href="code">', "</a>", "\x1b]0;", "\x07", "  ", ":", "<b>", "</b>"),
    ]
)  # fmt: skip
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=8))
FIELDS = st.fixed_dictionaries(
    {"output": TEXTS, "input": TEXTS},
    optional={"system": TEXTS, "instruction": TEXTS, "rejected": TEXTS, "tools": st.sampled_from(["", "[{}]"])},
)
TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool_call", "tool"]), TEXTS).map(list), max_size=3)


@settings(max_examples=600, deadline=None)
@given(FIELDS, TURNS)
@example({"input": "\n[EOS]&amp;", "output": ""}, [])
@example({"input": "  <b>", "output": "  文"}, [])
@example({"input": "<b>\n</s>token ", "output": ""}, [])
@example({"input": "", "output": ""}, [["user", '["x\\u200by"]</s>']])
@example({"input": "", "output": ""}, [["user", "\u200b\x0bไ"]])
def test_cleaning_twice_is_cleaning_once(fields: dict[str, str], turns: list[list[str]]) -> None:
    once = clean_row(row(**fields, history=turns)).row
    assert clean_row(once).row == once


@settings(max_examples=600, deadline=None)
@given(FIELDS, TURNS)
def test_nothing_is_removed_but_what_the_report_counts(fields: dict[str, str], turns: list[list[str]]) -> None:
    came = row(**fields, history=turns)
    made = clean_row(came)
    counted = dict.fromkeys((name for name in made.counts if " " in name), 0)
    before, after = texts_of(came), texts_of(made.row)
    for name, text in before.items():
        for edits in made.rounds.get(name, ()):
            for edit in edits:
                gone = text[edit.start : edit.end]
                assert edit.start < edit.end
                if edit.reason:
                    counted[f"{edit.reason} {edit.piece}"] += edit.count
                    assert not edit.piece.startswith("U+") or len(gone) == edit.count or edit.piece[:6] == "U+001B"
                    assert gone.isspace() or edit.reason != "white_space"
                    assert len(edit.new) <= 1
            text = apply(text, edits)
        assert text == after[name]
    inside_json = any(not edit.reason for rounds in made.rounds.values() for edits in rounds for edit in edits)
    assert inside_json or counted == {name: count for name, count in made.counts.items() if " " in name}
    assert {name.partition(" ")[0] for name in made.counts} == {name for name in made.counts if " " not in name}
    assert bool(made.counts) == (before != after)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="ab .,\t\n中文é\x0b\x0c\x1c\x1d\x1e\x1f\x85\u200b\u2028\u2029\ufeff", max_size=20))
@example("a\u200b中")
def test_unseen_characters_never_join_two_words(text: str) -> None:
    # the joiners themselves separate nothing: words on both sides of a byte order mark are one
    assert segment(cleaned(text)) == segment(text.replace("\ufeff", ""))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What does &nbsp; mean?", "A space at which no line breaks, &#160;."),
        ("What is &amp;?", "An ampersand."),
        ("How do I write a smaller-than sign there?", "Type &lt; instead."),
        ("&gt; 是什么意思？", "大于号。"),
        ("什么是 &lt;？", "小于号。"),
        ("小于号在那里怎么写？", "写成&lt;就可以了。"),
        ("Which one is it?", "It is '&copy;', I think."),
    ],
)
def test_an_entity_that_is_spoken_of_stays(question: str, answer: str) -> None:
    came = row(input=question, output=answer)
    assert clean_row(came).row == came


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("&quot;Hello&quot; she said &ndash; twice", '"Hello" she said – twice'),
        ("5 &lt; 6 &nbsp; is so", "5 < 6   is so"),
        ("什么是&ldquo;碳中和&rdquo;？", "什么是“碳中和”？"),
    ],
)
def test_an_entity_that_is_left_over_is_decoded(dirty: str, clean: str) -> None:
    assert cleaned(dirty) == clean
