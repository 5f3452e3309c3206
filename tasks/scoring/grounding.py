"""False answers: answers to a question about a context that the context does not carry, in English and Chinese. Pure.

An answer is unsupported if one of these occurs neither in the context nor in the question:

* a number, after normalisation: 1,200 is 1200, `five` and 五 are 5, 1.2亿 is 120000000, and 2024-01-02 has three numbers;
* a name: a capitalised word that does not begin a sentence (in an answer of at most NAME_WORDS words, each capitalised word), or a
  Chinese title in 《》;
* more than MAX_MISSING of its content: words without function words, compared without endings (`founded`, `founder`), and pairs of
  adjacent Chinese characters without particles.

Not unsupported are an answer that equals the target, an answer without content, and a refusal ("the text does not say").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import regex

from tasks.scoring.answer_text import normalise_answer
from tasks.scoring.answer_tokens import answer_tokens
from tasks.scoring.number_words import NUMBER_WORDS, NUMERALS, numbers_of, with_digits
from tasks.scoring.refusals import answers_after, is_refusal

MAX_MISSING = 0.4
"""The largest share of an answer's content that the context may lack: a paraphrase has words of its own."""
NAME_WORDS = 4
"""Answers of at most so many words are phrases: their first word is capitalised only if it is a name, or the answer one word."""

_FUNCTION = (
    "a an the this that these those it its he she they them his her their him we us our you your i my me one ones who "
    "whom whose which what when where why how and or but nor so if then than as because since while although though of in "
    "on at by for from to into onto with without within about over under after before between among during through "
    "against per via up down out off is are was were be been being am do does did done doing have has had having will "
    "would shall should can could may might must not no yes there here very more most less least much many some any each "
    "every all both either neither other another such only also just too even still again ever never same own s t d ll re "
    "ve m st nd rd th etc answer context passage text question according based mentioned stated states says given article "
    "paragraph called known became become becomes get got make makes made"
)
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
_PARTICLES = frozenset(
    "的了是在和与及或也都就而但被把从到对于这那有个其之以等因为所由则即又并着过地得很会能可将让使给向们他她它我你不没"
)
_PHRASES = regex.compile(
    "(?:根据|依据|按照|由)?(?:[上本原下]文|文[章中本]|[短课]文|上下文|材料|段落|背景|资料|信息)(?:内容|信息|中|里)?"
    "(?:可知|所述|提到|指出|说明|显示)?|答案|回答|问题|可知|可以|应该|应当|主要|所谓|就是|因此|所以|因为|由于|如果|但是|以及|分别"
    "|具体|其中|包括|例如|属于|表示|认为|通过"
)
_ENDINGS = (
    *("ations", "ation", "ments", "ment", "ingly", "ness", "ings", "ing", "ions", "ion", "ers", "ors", "ies", "ied"),
    *("ed", "er", "or", "es", "ly", "al", "s"),
)
_HAN = regex.compile(r"\p{Han}+")
_CAPITALISED = regex.compile(r"\p{Lu}[[\p{L}\p{M}]--\p{Han}]+", regex.VERSION1)
_BEGINS_SENTENCE = regex.compile(r"(?:\A|[.!?:。！？：\n])[\s\"'“‘(*-]*\Z")
_TITLE = regex.compile(r"《([^《》]+)》")
_NO_ANSWER = regex.compile(
    r"\b(?:does|do|did|is|are|was|were|can|could|has|have)(?: not|n't|not) (?:\w+ ){0,3}?"
    r"(?:say|mention|state|specif|provid|given|contain|includ|indicat|answer|determin|know|known|found|clear|enough|available)"
    r"|\bcannot be (?:determined|answered|found|known|inferred)|\bunanswerable\b|\bno (?:answer|information|mention)\b"
    r"|\bnot (?:mentioned|stated|specified|given|provided|available|in the (?:text|context|passage|article)|enough)\b"
    r"|\bi (?:do not|don't) know\b|\Aunknown\W*\Z"
    r"|(?:没有|未|并未|未曾|没)(?:\p{Han}{0,4})?(?:提到|提及|说明|提供|给出|指出|涉及|包含|记载|答案|信息|交代)"
    r"|无法(?:\p{Han}{0,6})?(?:确定|回答|得知|判断|知道|推断|找到)|不(?:知道|清楚|确定|详)|无答案|未知",
    regex.IGNORECASE,
)


@dataclass(frozen=True)
class _Evidence:
    """The content of a context and its question."""

    text: str
    stems: frozenset[str]
    prefixes: frozenset[str]
    numbers: frozenset[str]
    chinese: frozenset[str]
    """Chinese characters, and pairs of adjacent ones."""


def is_unsupported(answer: str, target: str, evidence: str) -> bool:
    """Whether an answer to a question about a context has content that neither context, question nor target has.

    Args:
        answer: the parsed answer, without a thought.
        evidence: context and question.
    """
    if normalise_answer(answer) == normalise_answer(target) or declines(answer):
        return False
    return not is_carried(answer, f"{evidence}\n{target}")


def declines(answer: str) -> bool:
    """Whether an answer states that it has none, and gives none after that."""
    match = _NO_ANSWER.search(answer)
    return (match is not None and not answers_after(answer[match.end() :])) or is_refusal(answer)


def is_carried(answer: str, evidence: str) -> bool:
    """Whether the evidence has the answer's numbers and names, and enough of its other content."""
    known, words = _evidence(evidence), _tokens(answer)
    if normalise_answer(answer) in known.text:
        return True
    content, missing = 0, 0.0
    for word in words:
        if numbers := numbers_of(word):
            if not numbers <= known.numbers:
                return False
            content += 1
        elif word not in _FUNCTION_WORDS and word[0].isalnum() and _HAN.match(word) is None:
            content += 1
            missing += not _has_word(known, word)
    if not all(_has_word(known, name.casefold()) or name.casefold() in known.text for name in _names(answer)):
        return False
    if not all(normalise_answer(title) in known.text for title in _TITLE.findall(answer)):
        return False
    pieces = _chinese_pieces(answer)
    missing += sum(piece not in known.chinese for piece in pieces)
    content += len(pieces)
    return missing <= MAX_MISSING * content


@lru_cache(maxsize=4096)  # base, champion and candidate answer the same prompts
def _evidence(text: str) -> _Evidence:
    words = _tokens(text)
    letters = [word for word in words if word[0].isalpha()]
    runs = _HAN.findall(text)
    return _Evidence(
        normalise_answer(text),
        frozenset(map(_stem, letters)),
        frozenset(word[:length] for word in letters for length in range(5, len(word) + 1)),
        frozenset(number for word in words for number in numbers_of(word)),
        frozenset(run[start : start + size] for run in runs for size in (1, 2) for start in range(len(run) - size + 1)),
    )


def _tokens(text: str) -> list[str]:
    """The tokens of a text, with numbers of several words or Chinese characters as digits."""
    return answer_tokens(with_digits(text))


def _has_word(known: _Evidence, word: str) -> bool:
    """Whether the evidence has the word, or one that differs from it by an ending."""
    if any(mark in word for mark in "<>≤≥/^÷→.@&"):
        return word in known.text  # a pair of two words
    return _stem(word) in known.stems or (len(word) > 5 and word[: max(5, len(word) - 3)] in known.prefixes)


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("'")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    word = word.removesuffix("e").removesuffix("y").removesuffix("i")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def _names(answer: str) -> list[str]:
    """The words that are capitalised although they do not begin a sentence."""
    is_phrase = len(answer.split()) <= NAME_WORDS
    return [
        match[0]
        for match in _CAPITALISED.finditer(answer)
        if match[0].casefold() not in _FUNCTION_WORDS
        and match[0].casefold() not in NUMBER_WORDS
        and (is_phrase or not _BEGINS_SENTENCE.search(answer[max(0, match.start() - 20) : match.start()]))
    ]


def _chinese_pieces(answer: str) -> list[str]:
    """Pairs of adjacent Chinese characters between particles and numbers; a single one is a piece itself."""
    pieces = []
    for run in _HAN.findall(_PHRASES.sub("的", answer)):
        start = 0
        for end in range(len(run) + 1):
            if end == len(run) or run[end] in _PARTICLES or run[end] in NUMERALS:
                part = run[start:end]
                pieces += [part[i : i + 2] for i in range(len(part) - 1)] if len(part) > 1 else [part] if part else []
                start = end + 1
    return pieces
