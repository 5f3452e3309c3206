"""Answers in which a model declines, in English and Chinese: "As an AI language model, I cannot …", "我无法提供……". Pure."""

from __future__ import annotations

import re

REFUSAL_CHARACTERS = 400
"""A refusal is at the start of an answer."""
REFUSAL_HINTS = frozenset(
    ["ai", "sorry", "cannot", "cant", "unable", "fulfill", "apologize", "apologies", "language", "personal", "access"]
)
"""An English refusal has one of these words."""
REFUSAL_MARKS = ("作为", "我是", "我只是", "抱歉", "对不起", "无法", "很遗憾")
"""A Chinese refusal has one of these."""

_CANNOT = "(?:can(?:no|')t|can not|am (?:unable|not able) to|won't|will not)"
_SERVE = "(?:assist|help|provide|fulfill|comply|answer|generate|create|access|retrieve|engage|support|do that|do this)"
_MODEL = "(?:ai|artificial intelligence|(?:ai |large )*language model|chatbot)(?: (?:assistant|model|system|chatbot))?"
REFUSAL = re.compile(
    rf"\bas an? (?:ai |large |artificial intelligence )*language model\b"
    rf"|\bas an? {_MODEL},? (?:i|my)\b"
    rf"|\bi(?:'m| am) (?:just |only )?an? {_MODEL}[ ,]+(?:and |so |i |therefore )*(?:{_CANNOT}|do(?: not|n't) have|have no)"
    rf"|\b(?:sorry|apologi[sz]e|apologies|unfortunately)[,.]? (?:but )?(?:i {_CANNOT}|i'm (?:unable|not able) to) {_SERVE}"
    rf"|\bi {_CANNOT} (?:fulfill|comply with|assist with|help (?:you )?with|answer) (?:this|that|your|the) "
    r"|\bi (?:do not|don't) have (?:personal (?:opinions|beliefs|feelings|experiences|preferences)|access to real-time)",
    re.IGNORECASE,
)

_CANNOT_ZH = "(?:暂时|目前)?(?:无法|不能|没有办法|没法)"
_SERVE_ZH = "(?:提供|回答|满足|完成|协助|帮助|生成|执行|处理|访问|给出|为[您你])"
_MODEL_ZH = "(?:文本)?(?:大型|大)?(?:人工智能|AI|语言|聊天)+(?:语言)?(?:模型|助手|助理|程序|机器人)"
REFUSAL_ZH = re.compile(
    rf"(?<![您你])(?:作为|我是|我只是)(?:一个|一名|一种|一款|个)?{_MODEL_ZH}"
    rf"|(?:抱歉|对不起|很遗憾)[，,。！!]?\s*(?:但是?)?我{_CANNOT_ZH}(?:直接)?{_SERVE_ZH}"
    rf"|我{_CANNOT_ZH}(?:直接)?{_SERVE_ZH}(?:您|你|这|该|此|任何)",
    re.IGNORECASE,
)


_TURN = re.compile(
    r"\b(?:but|however|although|nevertheless|maybe|perhaps|probably|possibly|i (?:think|guess|believe|suppose|assume)"
    r"|my (?:best )?guess(?: is)?)\b"
    r"|不过|(?<!不)但是?|然而|可是|也许|或许|可能是|应该是|大概|我猜|我想|我认为|我觉得|估计",
    re.IGNORECASE,
)
"""What may begin an answer after a refusal."""
_CLAUSE = re.compile(r"[^.!?。！？\n]*(?:\.(?=\d)[^.!?。！？\n]*)*")
_OFFER = re.compile(
    r"\W*(?:if|please|feel free|let me|you|your|we|thank|try|would you|could you|can you|(?:more|further) information"
    r"|i(?:'d| would| can| could| will|'ll|'m| am| hope| cannot| can't| do not| don't| have)"
    r"|(?:the|this) (?:answer|text|passage|context|article) (?:is|does|was)(?: not|n't))\b"
    r"|\W*(?:我(?:可以|能|会|愿意|很乐意|将|无法|不能|不|没)|您|你|请|如果|如有|若|建议|希望|欢迎|可以(?:参考|查|尝试|咨询)|无法|不能|没有|未)",
    re.IGNORECASE,
)
"""What begins a clause that helps otherwise, or declines again, and answers nothing."""


def is_refusal(answer: str) -> bool:
    """Whether an answer declines, or presents itself as a model, and does not answer after that."""
    answer = answer.replace("’", "'")
    matches = [pattern.search(answer[:REFUSAL_CHARACTERS]) for pattern in (REFUSAL, REFUSAL_ZH)]
    return any(match is not None and not answers_after(answer[match.end() :]) for match in matches)


def answers_after(rest: str) -> bool:
    """Whether the text after a refusal answers nevertheless: "I do not know, but it was Paris", "我不知道，不过应该是巴黎"."""
    for turn in _TURN.finditer(rest.replace("’", "'")):
        clause = _CLAUSE.match(rest, turn.end())
        text = clause[0] if clause else ""
        if any(character.isalnum() for character in text) and _OFFER.match(text) is None:
            return True
    return False


def declines_in_english(answer: str) -> bool:
    return REFUSAL.search(answer[:REFUSAL_CHARACTERS].replace("’", "'")) is not None


def declines_in_chinese(answer: str) -> bool:
    return REFUSAL_ZH.search(answer[:REFUSAL_CHARACTERS]) is not None
