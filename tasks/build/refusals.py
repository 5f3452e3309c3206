"""Why something that a model wrote is no new instruction, no good example, or no paraphrase. Pure.

The rules for instructions and instances are those of Self-Instruct (arXiv 2212.10560, section 2.2 and its code).
"""

from __future__ import annotations

import re
from collections import Counter

from tasks.build.prompts import Instance
from tasks.records.segmentation import language_of, nfkc, segment

LEAST_SEGMENTS, MOST_SEGMENTS = 4, 150
_NOT_FOR_TEXT = re.compile(
    r"\b(?:images?|graphs?|pictures?|photos?|files?|maps?|draw|plot|go to|videos?|audio|music|flowchart|diagram)\b"
    "|图片|图像|照片|画图|绘制|文件|地图|视频|音频|音乐|流程图|示意图|图表",
    re.IGNORECASE,
)
_PROGRAM = re.compile(r"write a (?:program|script)\b|(?:写|编写)一?(?:个|段)?(?:程序|脚本)", re.IGNORECASE)


def refuse_instruction(text: str, language: str) -> str | None:
    """The reason why a written instruction is refused by itself, without a look at others; None for a good one."""
    segments = segment(text)
    if len(segments) < LEAST_SEGMENTS:
        return "too_short"
    if len(segments) > MOST_SEGMENTS:
        return "too_long"
    if not text[0].isalnum():
        return "starts_oddly"
    if language_of(text) != language:
        return "other_language"
    if _NOT_FOR_TEXT.search(text):
        return "not_for_text"
    if _PROGRAM.match(text):  # the paper's: models are given to these, and they are hard to check
        return "write_a_program"
    return "repetitive" if _is_repetitive(segments) else None


def refuse_instance(instruction: str, instance: Instance) -> str | None:
    """The reason why an example of a task is refused; None for a good one."""
    given, output = instance
    if not output.strip():
        return "empty_output"
    if given and given.strip() == output.strip():
        return "output_is_input"
    if instruction.strip() in (given.strip(), output.strip()):
        return "repeats_instruction"
    if output.rstrip().endswith((":", "：")):
        return "cut_off"
    return "repetitive" if _is_repetitive(segment(output)) else None


def drop_conflicting(instances: list[Instance]) -> tuple[list[Instance], int]:
    """Examples without those whose input stands twice with different outputs, and how many were left out; equal ones once."""
    once = list(dict.fromkeys(instances))
    inputs = Counter(given for given, _ in once)
    kept = [each for each in once if inputs[each[0]] == 1 or not each[0]]
    return kept, len(instances) - len(kept)


_NUMBER = re.compile(r"[0-9]+(?:[.,:/][0-9]+)*")
_QUOTED = re.compile(
    r"\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|「([^」\n]{1,200})」|《([^》\n]{1,200})》|`([^`\n]{1,200})`"
)


def refuse_paraphrase(said: str, original: str) -> str | None:
    """The reason why a text does not stand for the original in other words; None where it may."""
    if not said.strip():
        return "empty"
    if segment(said) == segment(original):
        return "unchanged"
    if language_of(said) != language_of(original):
        return "other_language"
    if len(segment(said)) > 3 * len(segment(original)) + 10:
        return "too_long"
    if _facts(original) - _facts(said):
        return "drops_a_number_or_quotation"
    return None


def _facts(text: str) -> set[str]:
    """The numbers and quoted parts of a text, which any other wording of it holds too."""
    text = nfkc(text)
    quoted = {" ".join(segment(part)) for groups in _QUOTED.findall(text) for part in groups if part}
    return set(_NUMBER.findall(text)) | quoted


def _is_repetitive(segments: list[str]) -> bool:
    """Do runs of three segments return, more often than not?"""
    runs = list(zip(segments, segments[1:], segments[2:], strict=False))
    return len(runs) >= 6 and len(set(runs)) < len(runs) / 2
