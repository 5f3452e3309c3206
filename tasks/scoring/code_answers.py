"""Answers to programming tasks as programs, and pass@k. Pure: nothing is compiled or run here (tasks/sandbox/)."""

from __future__ import annotations

import math
import re
import textwrap

from tasks.scoring.thoughts import is_unfinished, without_thought

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n`]*\n(.*?)(?:\n?```|\Z)", re.DOTALL)
_PYTHON = {"python", "py", "python3"}
_CODE_BEGINS = re.compile(
    r"^(?:from\s+[\w.]+\s+import\b|import\s+\w|def\s+\w|class\s+\w|async\s+def\s+\w|@\w)", re.MULTILINE
)
_SIGNATURE = re.compile(r"^(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(", re.MULTILINE)
_NEXT_STATEMENT = re.compile(r"\n(?=[^\s#)\]}])")
_STRING = re.compile(r"\s*[rR]?(\"\"\"|''')(?:\\.|(?!\1).)*\1\s*", re.DOTALL)
_COMMENTS = re.compile(r"(?:\s|#[^\n]*)*")


def code_of(answer: str) -> str:
    """The first fenced block of Python in an answer, else its first fenced block, else the whole; "" without any code. Its first
    line keeps its indentation."""
    answer = "" if is_unfinished(answer) else without_thought(answer)
    blocks = _FENCE.findall(answer)
    code = next((text for language, text in blocks if language.lower() in _PYTHON), blocks[0][1] if blocks else answer)
    return code.strip("\r\n").rstrip() if code.strip() else ""


def stub_of(task: str) -> str:
    """The code at the end of a task that an answer may continue: imports, functions, and last a signature with no body but a
    docstring; "" if it ends in another way."""
    blocks = _FENCE.findall(task)
    text = blocks[-1][1] if blocks else task
    begin = _CODE_BEGINS.search(text)
    signatures = list(_SIGNATURE.finditer(text))
    if begin is None or not signatures:
        return ""
    body = _body_after(text, signatures[-1].end())
    if body is None:
        return ""
    docstring = _STRING.match(text, body)
    end = _COMMENTS.match(text, docstring.end() if docstring else body)
    return text[begin.start() :].rstrip() if end is not None and end.end() == len(text) else ""


def _body_after(text: str, position: int) -> int | None:
    """Where the body of a function begins, after the colon of its signature; None without one.

    Args:
        position: after the opening bracket of its parameters.
    """
    depth = 1
    for place in range(position, len(text)):
        character = text[place]
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character == ":":
            return place + 1
    return None


def programs_of(answer: str, stub: str = "") -> tuple[str, ...]:
    """The programs that an answer may mean, most likely first; none if it has no code. The first that compiles is meant.

    Args:
        stub: the code that it may continue (`stub_of`). An answer with the whole function follows it, or stands alone; one with the
            body alone may have lost the indentation of its first line, or of all.
    """
    code = code_of(answer)
    if not code:
        return ()
    names = _SIGNATURE.findall(stub)
    if not names:
        return (code,)
    whole = f"{stub}\n{code}"
    if names[-1] in _SIGNATURE.findall(code):
        return (whole, code)
    body = _NEXT_STATEMENT.split(code, maxsplit=1)[0]  # a model that completes texts goes on after the function
    bodies = (code, f"    {code.lstrip()}", textwrap.indent(code, "    "), body, f"    {body.lstrip()}")
    return (*(f"{stub}\n{text}" for text in dict.fromkeys(bodies)), code)


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate of the probability that at least one of k answers passes, from more samples (Chen et al., 2021).

    Args:
        samples: number of sampled answers, at least k.
        passed: how many of them passed.
    """
    if samples - passed < k:
        return 1.0
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)
