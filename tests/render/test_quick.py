"""Rendering in bulk equals the exact path: chat templates by shape, tokens by word, rows one at a time or many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.project import REPOSITORY
from support.tiny_models import make_tiny_tokenizer
from support.toychat import trained_spans
from tokenizers import normalizers

from tasks.prompts.templates.chat_template import ChatFormat
from tasks.prompts.templates.chat_template_cache import ChatTemplateCache
from tasks.prompts.templates.conversation import Conversation
from tasks.prompts.templates.fill_template import write_answer
from tasks.prompts.templates.template_analysis import compared_texts
from tasks.prompts.templates.templates import parse_family, read_templates
from tasks.prompts.tokens import word_cache
from tasks.prompts.tokens.pretokenize import ends_of_spaces
from tasks.prompts.tokens.tokens import Example, Renderer
from tasks.prompts.tokens.word_cache import WordTable
from tasks.runtime.files import canonical_json

LOOKING = {
    "a named text cut off": ("{% set tag = '</think>' %}", "m.content.split(tag)[-1]"),
    "a named text sought": ("{% set tag = '</think>' %}", "'thought' if tag in m.content else m.content"),
    "a length": ("", "'long' if m.content|length > 200 else m.content"),
    "a cut": ("", "m.content|truncate(120)"),
    "a dictionary": ("", "{'yes': 'Yes!'}.get(m.content, m.content)"),
    "a dictionary's key": ("", "{'yes': 'Yes!'}[m.content] or m.content"),
    "a part": ("", "m.content[:50]"),
    "a tab": ("", "'tab' if '\t' in m.content else m.content"),
    "a part of a text": ("", "'so' if m.content in 'yes or no' else m.content"),
    "a key's name": ("", "'name' if 'name' in m.content else m.content"),
    "the turn before": ("", "m.content ~ (loop.previtem.content|length if loop.previtem else '')"),
    "blank": ("", "m.content if m.content.strip() else 'nothing'"),
    "words": ("", "'yes' if 'YES' in m.content|upper else m.content"),
    "two joined": ("", "'yes' if 'ab' in m.content + 'b' else m.content"),
    "a space apart": ("{% set ns = namespace(c='') %}", "{'yes': 1}.get(ns.c, ns.c)"),
}
"""Chat templates that write something else for some contents: what they set first, and what they write of a message."""


FAMILIES = read_templates(REPOSITORY / "data/templates")
CHAT = REPOSITORY / "data/templates/chat"
CHAT_TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(CHAT.glob("*.jinja"))} | {
    "no end": "{% for message in messages %}{{ message.content }}{% endfor %}",
    "thinks": (
        "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' and '</think>' in c and not loop.last %}"
        "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}<{{ m.role }}>{{ c }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    ),
    "looks": (
        "{% for m in messages %}<{{ m.role }}>{{ m.content if m.content|length < 9 else m.content|upper }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    ),
}
TEXT = st.text(st.sampled_from("ab .,\n\t  城市7'<>/é\u3000"), max_size=40) | st.sampled_from(
    ["", " ", "The match  and   the goal", "a</think>b", "<|endoftext|>", "line one\n  line two \n\n", "它叫城市7。"]
)
TOKENIZER = make_tiny_tokenizer()
CUT_AT_ITS_FIRST_SPACE = {
    "row_id": "0" * 32, "family": "dialogue", "language": "en", "system": "777", "history": "[]", "tools": "",
    "instruction": "line one\n  line two \n\n", "input": " 77", "output": "它叫城市7。",
}  # fmt: skip


def rows() -> st.SearchStrategy[dict[str, Any]]:
    pairs = st.lists(st.tuples(TEXT, TEXT), max_size=3)
    history = pairs.map(lambda ps: canonical_json([t for q, a in ps for t in (["user", q], ["assistant", a])]))
    fixed = {"family": st.just("dialogue"), "language": st.just("en"), "tools": st.just("")}
    text = dict.fromkeys(("system", "instruction", "input", "output"), TEXT)
    text |= {"untrained": st.sampled_from(["", "[-3]", "[-5]", "[-5,-3]"])}
    return st.fixed_dictionaries({"row_id": st.just("0" * 32), "history": history, **fixed, **text})


@pytest.mark.parametrize("name", CHAT_TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(
    subjects=st.lists(rows(), min_size=1, max_size=6), all_turns=st.booleans(), longest=st.sampled_from([24, 64, 512])
)
@example(subjects=[CUT_AT_ITS_FIRST_SPACE], all_turns=False, longest=64)
def test_the_caches_give_the_result_of_the_exact_path(name: str, subjects: Any, all_turns: bool, longest: int) -> None:
    TOKENIZER.chat_template = CHAT_TEMPLATES[name]
    quick, slow = (Renderer(TOKENIZER, longest, all_turns, uses_caches=uses_caches) for uses_caches in (True, False))
    ours, theirs = (renderer.render(subjects, FAMILIES["dialogue"].choose) for renderer in (quick, slow))
    assert [as_tuple(one) for one in ours] == [as_tuple(one) for one in theirs]


@pytest.mark.parametrize("name", LOOKING)
def test_a_chat_template_that_depends_on_contents_is_applied_to_these_rows(name: str) -> None:
    before, written = LOOKING[name]
    TOKENIZER.chat_template = (
        before + "{% for m in messages %}" + ("{% set ns.c = m.content %}" if "ns" in before else "") + "<{{ m.role }}>{{ "
        + written + " }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )  # fmt: skip
    output = ["plain", "one more", "a third", "x</think>y", "yes", "name", "a\tb", "a", " \n", "no " * 90, "the last"]
    talks = [
        Conversation([{"role": "user", "content": a}, {"role": "assistant", "content": b}])
        for a, b in [(text, "fine") for text in output] + [("why", text) for text in output]
    ]
    chat = ChatFormat(TOKENIZER)
    slow = [chat.sequences(talk, True) for talk in talks]
    quick = ChatTemplateCache(chat)
    assert [result for talk in talks for result in quick.sequences([talk], True)] == slow
    assert ChatTemplateCache(chat).sequences(talks, True) == slow


@pytest.mark.parametrize("path", sorted(CHAT.glob("*.jinja")), ids=lambda path: path.stem)
def test_our_own_chat_templates_go_the_quick_way(path: Path) -> None:
    assert compared_texts(path.read_text(encoding="utf-8")) == ()


@pytest.mark.parametrize("name", LOOKING)
def test_what_the_analysis_does_not_track_is_rejected(name: str) -> None:
    before, written = LOOKING[name]
    setting = "{% set ns.c = m.content %}" if "ns" in before else ""
    result = compared_texts(f"{before}{{% for m in messages %}}{setting}{{{{ {written} }}}}{{% endfor %}}")
    followed = {
        "a named text cut off": ("</think>",), "a named text sought": ("</think>",), "a tab": ("\t",),
        "a key's name": ("name",), "blank": (),
    }  # fmt: skip
    assert result == followed.get(name)


def as_tuple(result: Any) -> Any:
    if not isinstance(result, Example):
        return result
    return result.prompt, result.ids.tolist(), result.mask.tolist(), result.prompt_tokens, result.was_cut


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(
    normalizer: Any = None, pattern: str | None = None, has_all_bytes: bool = True, unknown: str | None = None,
    digits: bool = False,
) -> Any:  # fmt: skip
    """A tokenizer of a handful of merges, which cuts texts as those of GPT-2 do, or by a pattern."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token=unknown, fuse_unk=unknown is not None))
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    steps += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)]
    )
    if normalizer is not None:
        made.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet() if has_all_bytes else []
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["</s>", "<|im_end|>", "<unk>"], initial_alphabet=alphabet
    )
    made.train_from_iterator(
        ["a   b    12  c  the words the city  is\n\n城市 它叫 café e\u0301 don't 12 345 <|x|>"] * 3, trainer
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")


TOKENIZERS = {
    "GPT-2's pattern": TOKENIZER,
    "Qwen's, NFC": byte_level(normalizers.NFC(), QWEN),
    "SmolLM2's, digits apart": byte_level(digits=True),
    "bytes that it does not know": byte_level(has_all_bytes=False),
    "and has a token for": byte_level(has_all_bytes=False, unknown="<unk>"),
}
SPACED = st.text(st.sampled_from(" \u3000\xa0\u2009\u0085\n\t\x1cabé\u0301城市中,.'1“”"), max_size=40)
"""White space of many kinds, characters that end or begin as it does in UTF-8, and marks that NFC joins to what stands before."""
SAID = st.sampled_from(
    [
        *("a  12", "1  2 34  ", "a  </s>", "a   <|im_end|>  b", "a <|im_end|> b", "</s> </s>", " x", "x ", "  "),
        *("the 😀ax 城市c x", "the 城市c", "the 😀ax", "e\u0301 e\u0301 é"),
    ]
)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None)
@given(texts=st.lists(TEXT | SPACED | SAID | st.text(max_size=60), min_size=1, max_size=8))
def test_words_apart_are_the_tokens_of_the_whole(name: str, texts: list[str]) -> None:
    table = WordTable(TOKENIZERS[name])
    assert table.by_word
    expected = TOKENIZERS[name](texts, add_special_tokens=False)["input_ids"]
    for _ in range(2):  # words that are new, and words that are known
        assert [ids.tolist() for ids in table.encode(texts)] == expected


def test_an_unknown_token_may_stand_for_any_number_of_bytes() -> None:
    tokenizer = TOKENIZERS["and has a token for"]
    table = WordTable(tokenizer)
    for texts in (["the 😀ax 城市c x"], ["the 😀ax", "the 城市c"]):
        assert [ids.tolist() for ids in table.encode(texts)] == tokenizer(texts, add_special_tokens=False)["input_ids"]


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT | SPACED | st.text(max_size=60), st.integers(1, 30)), min_size=1, max_size=5))
def test_texts_are_cut_at_the_same_place_by_word_and_as_a_whole(given: list[tuple[str, int]]) -> None:
    texts, tokens = [text for text, _ in given], [count for _, count in given]
    whole = WordTable(TOKENIZER, by_word=False)
    assert WordTable(TOKENIZER).cut(texts, tokens) == whole.cut(texts, tokens)


def test_a_template_that_failed_writes_the_next_row_as_ever() -> None:
    answer = "{% macro m() %}q{% endmacro %}{% autoescape true %}{% set x = output|parsed %}{% endautoescape %}{{ m() + output }}"
    entry = {"id": "a", "language": "en", "user": "{{ input }}", "answer": answer}
    template = parse_family("f", {"kind": "free", "templates": [entry]}).templates[0]
    fields = dict.fromkeys(("family", "language", "system", "instruction", "input"), "f")
    subject = {"row_id": "0" * 32, "output": '"<b>"', **fields}
    assert write_answer(template, subject) == 'q"<b>"'
    assert write_answer(template, {**subject, "output": "no JSON"}) == "no JSON"
    assert write_answer(template, subject) == 'q"<b>"'


def test_a_table_that_is_full_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "MOST_TOKENS", 20)
    table = WordTable(TOKENIZER)
    for number in range(12):
        texts = [f"row {number} names {number * 7} cities", "the same again"]
        assert [ids.tolist() for ids in table.encode(texts)] == TOKENIZER(texts, add_special_tokens=False)["input_ids"]
        assert table.cut(texts, [3, 1]) == WordTable(TOKENIZER, by_word=False).cut(texts, [3, 1])


def test_a_tokenizer_whose_parts_could_reach_over_a_space_is_given_the_whole_text() -> None:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    metaspace = Tokenizer(models.BPE())
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace()
    assert ends_of_spaces(PreTrainedTokenizerFast(tokenizer_object=metaspace, eos_token="</s>")) is None
    spaced = make_tiny_tokenizer()
    assert ends_of_spaces(spaced) is not None
    spaced.add_tokens([AddedToken("two words", normalized=False)])
    assert ends_of_spaces(spaced) is None


def test_a_tokenizer_with_a_leading_space_tokenises_prompt_and_answer_together() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(special_tokens=["</s>", "\n"], initial_alphabet=list("[]/INSTabcHello:# .▁"))
    made.train_from_iterator(["[INST] Hello [/INST] abc. Response: ### Hello"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", bos_token="</s>")
    tokenizer.chat_template = CHAT_TEMPLATES["llama2"]
    history = canonical_json([["user", "abc"], ["assistant", "Hello."]])
    subject = {
        "row_id": "0" * 32, "family": "dialogue", "language": "en", "system": "", "history": history, "tools": "",
        "instruction": "", "input": "Hello", "output": "abc.",
    }  # fmt: skip
    (example,) = Renderer(tokenizer, 512, all_turns=True).render([subject], FAMILIES["dialogue"].choose)
    assert isinstance(example, Example)
    text = "</s>[INST] abc [/INST] Hello. </s>[INST] Hello [/INST] abc. </s>"
    assert example.ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(trained_spans(example)) == 2


def test_the_texts_that_a_chat_template_looks_for_are_found() -> None:
    assert compared_texts(CHAT_TEMPLATES["chatml"]) == ()
    assert compared_texts(CHAT_TEMPLATES["thinks"]) == ("</think>",)
    assert compared_texts(
        "{% if messages[0].content.startswith('/no') or 'ab' in messages[1].content %}{% endif %}"
    ) == (
        "/no",
        "ab",
    )
