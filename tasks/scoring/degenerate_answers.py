"""Degenerate answers: those that a person rejects without comparing them with the target. They score 0. Pure.

A person's answer must never be one of them, so each rule has exceptions: what the target or the question has is permitted.
docs/decisions/0022-degenerate-answers.md has the measured rates.
"""

from __future__ import annotations

from typing import Literal, get_args

import regex

from tasks.scoring.answer_loops import ends_in_loop

Reason = Literal["empty", "loop", "encoding_damage", "template_leaked", "wrong_script", "cut_off"]
REASONS: tuple[Reason, ...] = get_args(Reason)

DAMAGED = "\ufffd"
LEAST_WORDS = 8
"""Fewer words in another script may be a name."""
FOREIGN_SHARE, KNOWN_SHARE = 0.8, 0.3
"""The least share of the answer's words in scripts of which the target and the question have less than the second share."""
DAMAGED_SHARE = 0.1
"""The least share of U+FFFD among the characters of a damaged answer: a single one in a long text is a blemish."""
CODE_MARKS_A_WORD = 0.3
"""From this many marks of code for each word on, a text is code."""

_SCRIPTS = {
    "Latin": regex.compile(r"\p{Latin}+"),
    **{name: regex.compile(rf"\p{{{name}}}") for name in ("Han", "Hangul")},
    "kana": regex.compile(r"[\p{Hiragana}\p{Katakana}]"),
    **{
        name: regex.compile(rf"\p{{{name}}}[\p{{{name}}}\p{{M}}]*")
        for name in ("Arabic", "Armenian", "Bengali", "Cyrillic", "Devanagari", "Georgian", "Greek", "Hebrew", "Tamil")
    },
    **{
        name: regex.compile(rf"\p{{{name}}}[\p{{{name}}}\p{{M}}]{{0,3}}")
        for name in ("Khmer", "Lao", "Myanmar", "Thai")
    },
}
"""Script → a word of it; a character is a word where there are no spaces."""
_CODE_MARK = regex.compile(r"[{}()\[\]=;<>_\\|$]")
_FENCED = regex.compile(r"```.*?(?:```|\Z)", regex.DOTALL)

_CONTROL_TOKEN = regex.compile(
    r"<\|\w{1,40}\|>|<｜[\w▁]{1,40}｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|(?:\A|\n)\#{2,3} ?(?:Instruction|Response|Human|User|Assistant|指令|用户|助手) ?[:：]"
)
_END_TOKEN = regex.compile(r"</s>")
_HUMAN = regex.compile(r"\n[ \t]*(?:Human|User|人类|用户) ?[:：]")
_HUMAN_AFTER_BLANK_LINE = regex.compile(r"\S\s*\n[ \t]*\n[ \t]*(?:Human|人类) ?[:：]")
_ASSISTANT = regex.compile(r"(?:\A|\n)[ \t]*(?:Assistant|AI|Bot|助手|助理|机器人) ?[:：]")
_BARE_USER = regex.compile(r"\nuser\n")
_BARE_ASSISTANT = regex.compile(r"(?:\A|\n)(?:assistant|model)\n")
_DIALOGUE = regex.compile(
    r"dialog|conversation|chat|interview|script|\b(?:human|user|assistant|ai|bot)s?\b|对话|聊天|会话|访谈|剧本|人类|用户|助手|机器人",
    regex.IGNORECASE,
)


def degenerate_reason(
    answer: str, target: str, question: str = "", *, is_cut: bool = False, compares_scripts: bool = True
) -> Reason | None:
    """Why an answer is degenerate; None for any other.

    Args:
        answer: the answer as text, without its thought.
        question: the last turn of the user. Without it, scripts are not compared.
        is_cut: whether the token limit ended the answer, although the target is shorter than the limit.
        compares_scripts: the answer should be in the script of the target or of the question, as an answer in prose.
    """
    if not answer.strip():
        return "empty" if target.strip() else None
    if ends_in_loop(answer, target):
        return "loop"
    if has_encoding_damage(answer, target, question):
        return "encoding_damage"
    if has_leaked_template(answer, target, question):
        return "template_leaked"
    if compares_scripts and is_in_wrong_script(answer, target, question):
        return "wrong_script"
    return "cut_off" if is_cut else None


def has_encoding_damage(answer: str, target: str, question: str) -> bool:
    """Whether a part of the answer is bytes that are no characters, which a decoder replaces by U+FFFD. At its end, the token
    limit may have cut a character in two."""
    if DAMAGED not in answer or DAMAGED in target or DAMAGED in question:
        return False
    characters = "".join(answer.split())
    text = characters.rstrip(DAMAGED)
    return not text or text.count(DAMAGED) >= DAMAGED_SHARE * len(characters)


def has_leaked_template(answer: str, target: str, question: str) -> bool:
    """Whether the answer has control tokens of a chat template, or turns that the model invented after its answer, that neither the
    target nor the question has."""
    context = f"{question}\n{target}"
    if any(token.strip() not in context for token in set(_CONTROL_TOKEN.findall(answer))):
        return True
    if _END_TOKEN.search(answer) and "<s>" not in answer and "</s>" not in context:
        return True
    if _DIALOGUE.search(context):
        return False
    if _HUMAN_AFTER_BLANK_LINE.search(answer) or (_HUMAN.search(answer) and _ASSISTANT.search(answer)):
        return True
    user = _BARE_USER.search(answer)  # a decoder removes control tokens, and leaves the names of the roles
    return user is not None and _BARE_ASSISTANT.search(answer, user.end() - 1) is not None


def is_in_wrong_script(answer: str, target: str, question: str) -> bool:
    """Whether an answer in prose is in a script that is neither the target's nor the question's."""
    answer = _FENCED.sub(" ", answer)
    words, expected, known = (script_words(text) for text in (answer, target, question))
    if not expected or not known:
        return False
    foreign = sum(
        count for name, count in words.items() if max(_share(name, expected), _share(name, known)) < KNOWN_SHARE
    )
    if foreign < LEAST_WORDS or foreign < FOREIGN_SHARE * sum(words.values()):
        return False
    return len(_CODE_MARK.findall(answer)) < CODE_MARKS_A_WORD * sum(words.values())


def script_words(text: str) -> dict[str, int]:
    """Script → the number of words in it, of those that occur."""
    scripts = {"Latin": _SCRIPTS["Latin"]} if text.isascii() else _SCRIPTS
    counts = {name: len(pattern.findall(text)) for name, pattern in scripts.items()}
    return {name: count for name, count in counts.items() if count}


def _share(script: str, words: dict[str, int]) -> float:
    return words.get(script, 0) / sum(words.values())
