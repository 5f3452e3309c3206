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


def is_refusal(answer: str) -> bool:
    """Whether an answer declines, or presents itself as a model."""
    return declines_in_english(answer) or declines_in_chinese(answer)


def declines_in_english(answer: str) -> bool:
    return REFUSAL.search(answer[:REFUSAL_CHARACTERS].replace("’", "'")) is not None


def declines_in_chinese(answer: str) -> bool:
    return REFUSAL_ZH.search(answer[:REFUSAL_CHARACTERS]) is not None
