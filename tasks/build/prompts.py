"""The prompts for a generator, in English and Chinese, and the parsers of its answers. Pure.

The prompts of Self-Instruct (arXiv 2212.10560, appendix A): new tasks after shown ones, whether a task is a
classification, and examples of it, the input first or, for a classification, the label first. The shown tasks are seed tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.build.generator import CutOff

Instance = tuple[str, str]
"""Input and output of a task."""


@dataclass(frozen=True)
class Task:
    instruction: str
    instances: tuple[Instance, ...] = ()
    is_classification: bool = False
    digest: str = ""
    """The record digest of a seed task."""


@dataclass(frozen=True)
class Words:
    """The fixed texts of the prompts in a language."""

    come_up: str
    task: str
    classify: str
    question: str
    yes: str
    no: str
    input_first: str
    label_first: str
    example: str
    input: str
    output: str
    label: str
    none: str


WORDS = {
    "en": Words(
        "Come up with a series of tasks:", "Task",
        "Can the following task be regarded as a classification task with finite output labels?", "Is it classification?",
        "Yes", "No",
        "Come up with examples for the following tasks. Try to generate multiple examples when possible. If the task doesn't "
        "require additional input, you can generate the output directly.",
        "Given the classification task definition and the class labels, generate an input that corresponds to each of the class "
        "labels. If the task doesn't require input, just generate possible class labels.",
        "Example", "Input", "Output", "Class label", "None",
    ),
    "zh": Words(
        "请想出一系列任务：", "任务", "下面的任务可以看作输出标签有限的分类任务吗？", "是分类任务吗？", "是", "否",
        "请为下面的任务举例，尽可能多举几个。如果任务不需要额外的输入，可以直接给出输出。",
        "根据分类任务的定义和类别标签，为每个类别标签写出一个对应的输入。如果任务不需要输入，只写出可能的类别标签。",
        "示例", "输入", "输出", "类别标签", "无",
    ),
}  # fmt: skip


def tasks_prompt(shown: Sequence[str], words: Words) -> str:
    """The shown instructions as a numbered list to continue."""
    lines = [f"{words.task} {number}: {_one_line(text)}" for number, text in enumerate(shown, start=1)]
    return "\n".join([words.come_up, *lines, f"{words.task} {len(shown) + 1}:"])


def classification_prompt(instruction: str, shown: Sequence[Task], words: Words) -> str:
    pieces = [words.classify]
    for task in shown:
        answer = words.yes if task.is_classification else words.no
        pieces.append(f"{words.task}: {_one_line(task.instruction)}\n{words.question} {answer}")
    return "\n\n".join([*pieces, f"{words.task}: {_one_line(instruction)}\n{words.question}"])


def instances_prompt(instruction: str, shown: Sequence[Task], words: Words, label_first: bool) -> str:
    pieces = [words.label_first if label_first else words.input_first]
    for task in shown:
        lines = [f"{words.task}: {_one_line(task.instruction)}"]
        for number, (input_text, output) in enumerate(task.instances, start=1):
            if label_first:
                lines += [f"{words.label}: {output}", *([input_text] if input_text else [])]
            else:
                lines += [f"{words.example} {number}", *([f"{words.input}: {input_text}"] if input_text else [])]
                lines.append(f"{words.output}: {output}")
        pieces.append("\n".join(lines))
    return "\n\n".join([*pieces, f"{words.task}: {_one_line(instruction)}\n"])


# The start of a line with all blank space before it, scanned once. A repetition that can begin at every line end of a run
# (`\n\s*`), or follows another one (`\s*\d*\s*`), is quadratic: an hour for 100,000 blank lines.
_LINE_START = r"(?:^\s*+|(?<!\s)(?>\s*\n)\s*+|\n[^\S\n]*+)"
_LATER_LINE_START = r"(?:(?<!\s)(?>\s*\n)\s*+|\n[^\S\n]*+)"
_LINE_END = r"(?>\s*(?=\n)|\s*\Z)"
_TASK = re.compile(_LINE_START + r"(?:\*\*)?(?:Task|任务)\s*+\d++\s*+[:：.、)](?:\*\*)?", re.IGNORECASE)
_NUMBER = re.compile(_LINE_START + r"\d++\s*+[.、)]")
_ENDS = re.compile(r"[.?!:;。？！：；…)\]）】\"'”’`]$")


def parse_tasks(answer: str) -> tuple[list[str], int]:
    """The instructions of the continued list, and the number of incomplete ones: the last one, if it or the answer is cut off."""
    # split at bare numbers only without the word "Task": they may be a list within an instruction
    pieces = (_TASK if _TASK.search(answer) else _NUMBER).split(answer)
    texts = [text for piece in pieces if (text := " ".join(piece.split()))]
    if texts and (isinstance(answer, CutOff) or (len(texts) > 1 and not _ENDS.search(texts[-1]))):
        return texts[:-1], 1
    return texts, 0


def parse_is_classification(answer: str) -> bool:
    return answer.strip().lower().startswith(("yes", "是"))


_EXAMPLE = re.compile(
    _LINE_START + r"(?:Example|示例|例子)"
    rf"(?:\s*+\d++\s*+[:：.]{_LINE_END}|\s*+\d++{_LINE_END}|\s*+[:：.]{_LINE_END}|{_LINE_END})",
    re.IGNORECASE,
)
_INPUT = re.compile(_LINE_START + r"(?:Input|输入)\s*+[:：]", re.IGNORECASE)
_OUTPUT = re.compile(_LINE_START + r"(?:Output|输出)\s*+[:：]", re.IGNORECASE)
_LABEL = re.compile(_LINE_START + r"(?:Class label|类别标签)\s*+[:：]", re.IGNORECASE)
_NEXT_TASK = re.compile(_LATER_LINE_START + r"(?:Task|任务)\s*+(?:\d++\s*+)?[:：]", re.IGNORECASE)
_NOTHING = {"", "none", "<noinput>", "noinput", "n/a", "no input", "none.", "无", "无输入", "（无）", "(none)"}


def parse_instances(answer: str, label_first: bool) -> tuple[list[Instance], int]:
    """The examples of a task, in order, and the number of incomplete ones: the last, if the answer is cut off. Examples without
    an output are ignored."""
    examples, *next_task = _NEXT_TASK.split(answer, maxsplit=1)  # the model may continue with another task
    pieces = (_LABEL if label_first else _EXAMPLE).split(examples)
    if isinstance(answer, CutOff) and not next_task:
        return _instances(pieces[:-1], label_first), 1
    return _instances(pieces, label_first), 0


def _instances(pieces: list[str], label_first: bool) -> list[Instance]:
    if label_first:
        labelled = [piece.strip().partition("\n") for piece in pieces[1:]]
        return [(_input_text(_without(_INPUT, text)), label.strip()) for label, _, text in labelled if label.strip()]
    instances = []
    for piece in pieces:
        before, *after = _OUTPUT.split(piece, maxsplit=1)
        if after and after[0].strip():
            instances.append((_input_text(_without(_INPUT, before)), after[0].strip()))
    return instances


def _without(label: re.Pattern[str], text: str) -> str:
    match = label.search(text)
    if match is None:
        return text.strip()
    blanks = match[0].partition("\n")[0]  # at the end of the previous line
    return f"{text[: match.start()]}{blanks if blanks.isspace() else ''}\n{text[match.end() :]}".strip()


def _input_text(text: str) -> str:
    return "" if text.lower() in _NOTHING else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
