"""Reasons to refuse a generated instruction, example or paraphrase. Pure.

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
    """The reason to refuse an instruction by itself, not compared with others; None for a good one."""
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
    if _PROGRAM.match(text):  # as in the paper: models often generate these, and they are hard to check
        return "write_a_program"
    return "repetitive" if _is_repetitive(segments) else None


def refuse_instance(instruction: str, instance: Instance) -> str | None:
    """The reason to refuse an example of a task; None for a good one."""
    input_text, output = instance
    if not output.strip():
        return "empty_output"
    if input_text and input_text.strip() == output.strip():
        return "output_is_input"
    if instruction.strip() in (input_text.strip(), output.strip()):
        return "repeats_instruction"
    if output.rstrip().endswith((":", "：")):
        return "cut_off"
    return "repetitive" if _is_repetitive(segment(output)) else None


def drop_conflicting(instances: list[Instance]) -> tuple[list[Instance], int]:
    """The examples without duplicates and without inputs that have several outputs, and the number of dropped examples."""
    unique = list(dict.fromkeys(instances))
    inputs = Counter(text for text, _ in unique)
    kept = [(text, output) for text, output in unique if inputs[text] == 1 or not text]
    return kept, len(instances) - len(kept)


_NUMBER = re.compile(r"[0-9]+(?:[.,:/][0-9]+)*")
_QUOTED = re.compile(
    r"\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|「([^」\n]{1,200})」|《([^》\n]{1,200})》|`([^`\n]{1,200})`"
)


def refuse_paraphrase(text: str, original: str) -> str | None:
    """The reason to refuse a text as a paraphrase of the original; None for a good one."""
    if not text.strip():
        return "empty"
    if segment(text) == segment(original):
        return "unchanged"
    if language_of(text) != language_of(original):
        return "other_language"
    if len(segment(text)) > 3 * len(segment(original)) + 10:
        return "too_long"
    if _facts(original) - _facts(text):
        return "drops_a_number_or_quotation"
    return None


def _facts(text: str) -> set[str]:
    """The numbers and quoted parts of a text, which a paraphrase must keep."""
    text = nfkc(text)
    quoted = {" ".join(segment(part)) for groups in _QUOTED.findall(text) for part in groups if part}
    return set(_NUMBER.findall(text)) | quoted


def _is_repetitive(segments: list[str]) -> bool:
    """Whether less than half of the segment trigrams are distinct."""
    trigrams = list(zip(segments, segments[1:], segments[2:], strict=False))
    return len(trigrams) >= 6 and len(set(trigrams)) < len(trigrams) / 2
