"""Normalisation of an answer's text: texts become equal if they differ only in how they are typed, and only then. Pure.

Unicode's NFKC alone makes 25 of 2⁵, and 11/2 of 1½.
"""

from __future__ import annotations

import unicodedata

import regex

from tasks.records.segmentation import nfkc

CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
_RAISED = regex.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_LOWERED = regex.compile(r"(?<![₀-₉])(?:(?<=\d)[₀-₉]++|[₀-₉]++(?=\d))")
_SQUARED = regex.compile(r"[\u3300-\u33ff]")
_NUMBER_BOUNDARY = regex.compile(r"(?<=[\d\p{No}--₀-₉])(?=[\p{No}--₀-₉])|(?<=[\p{No}--₀-₉])(?=\d)", regex.VERSION1)
"""Between ½ or ① and an adjacent number."""
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()", strict=True)),  # H₂O is H2O; tasks.records.segmentation does not
        "⁄": "/", "∕": "/", "∶": ":", "≦": "≤", "≧": "≥", "⩽": "≤", "⩾": "≥", "’": "'",
        "\ufe0e": None, "\ufe0f": None,
    }
)  # fmt: skip
_OPERATORS = {"<=": "≤", ">=": "≥", "!=": "≠", "==": "="}
_OPERATOR = regex.compile(r"(?<![<>=!])(?:[<>!=]=)(?![=>])")
_SPACE = regex.compile(r"\s+")

_RULE = regex.compile(r"^[ \t]*(?:([-=*_#~+])\1{2,}+|(?:\|[ \t]*)?:?-{3,}[-|: \t]*+|```\w*)[ \t]*$", regex.MULTILINE)
_LINE_MARK = regex.compile(r"^[ \t]*(?:[-*+•][ \t]+|>[ \t]+(?![\d.$-])|\#{1,6}[ \t]+|\|)+", regex.MULTILINE)
_NEGATIVE_LINE = regex.compile(r"\A\s*-[ \t]+(?=[\d.][\d.,]*[ \t]*+%?\s*\Z)")
_EMPHASIS = regex.compile(r"(?<![a-z0-9*)\]])(\*{1,3})(?=[^\s*])([^*\n]*[^\s*])\1(?![a-z0-9*(\[])")
_UNDERLINED = regex.compile(r"(?<!\w)_(?=[^\s_])([^_\n]*[^\s_])_(?!\w)")
_FORMULA = regex.compile(rf"(?<![^\W{CJK}]|[$\\])\$(?=[^\s$])([^$\n]*[^\s$\\])\$(?![^\W{CJK}]|\$)", regex.VERSION1)
_OF_LATEX = ("\\", "$$", "^{", "_{")
_DISPLAYED = regex.compile(
    r"\$\$([^$]++)\$\$|(?<!\\)\\\(([^\\]*+(?:\\(?![()\\])[^\\]*+)*+)\\\)|(?<!\\)\\\[([^\\]*+(?:\\(?![][\\])[^\\]*+)*+)\\\]"
)
_BOXED = regex.compile(r"\\(?:boxed|text|mathrm|mathbf)\s?\{((?:[^{}]++|\{[^{}]*+\})*+)\}")
_FRACTION = regex.compile(r"\\[dt]?frac\s?\{(-?[\w.]++)\}\s?\{(-?[\w.]++)\}")
_BRACED = regex.compile(r"(?<=[\^_√])\{(-?[\w.]++|[+-])\}")
_COMMANDS = {
    "times": "×", "div": "÷", "pm": "±", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "infty": "∞",
    "pi": "π", "to": "→", "rightarrow": "→", "approx": "≈", "sqrt": "√", "left": "", "right": "", "circ": "°",
}  # fmt: skip
_COMMAND = regex.compile(rf"\\({'|'.join(_COMMANDS)})(?![a-z])[ ]?")
_ESCAPED = regex.compile(r"\\([%$&#_{}])|\\[,;!]")
_WORD = regex.compile(rf"[{CJK}]|\p{{L}}{{2}}")
ENDING = " .,;:!?。、…"
"""Characters at the end of an answer that do not change it; NFKC maps fullwidth forms to these."""


def fold(text: str) -> str:
    """The text with normalised symbols, in folded case."""
    return normalise_symbols(text).casefold()


def normalise_symbols(text: str) -> str:
    """The text in NFKC, with dashes as `-` and comparisons as `≤`, `≥` and `≠`; 2⁵ becomes 2^5, and 1½ becomes 1 1/2."""
    if not text.isascii():
        text = _SQUARED.sub(lambda match: _square(match[0]), text)
        text = _RAISED.sub(lambda match: "^" + "".join(_SUPERSCRIPTS[sign] for sign in match[0]), text)
        text = _LOWERED.sub(lambda match: f"_{match[0]} ", text)
        text = nfkc(_NUMBER_BOUNDARY.sub(" ", text)).translate(_SIGNS)
    return str(_OPERATOR.sub(lambda match: _OPERATORS[match[0]], text))


def one_line(text: str) -> str:
    """The folded text, with each run of white space as one space."""
    return str(_SPACE.sub(" ", fold(text))).strip()


def normalise_answer(text: str) -> str:
    """An answer or label for comparison: folded, on one line, without punctuation at its end (unless it is all punctuation)."""
    line = one_line(text)
    end = len(line)
    has_factorials = is_expression(line)
    while end and (line[end - 1] in ENDING or line[end - 1].isspace()):  # a separator such as \x1f is white space, too
        if (
            has_factorials
            and line[end - 1] == "!"
            and (line[end - 2 : end - 1].isdigit() or line[end - 2 : end - 1] in ("!", ")"))
        ):
            break
        end -= 1
    return line[:end] or line


def without_markdown(folded: str) -> str:
    """The text without Markdown's marks of lists, headings, tables, emphasis, code and formulas, and with LaTeX's most common
    commands as the symbols that they print."""
    if any(mark in folded for mark in _OF_LATEX):
        folded = _without_latex(folded)
    folded = _NEGATIVE_LINE.sub("-", folded, count=1) if "\n" not in folded.strip() else folded
    folded = _LINE_MARK.sub("", _RULE.sub("", folded))
    for pattern, kept in ((_EMPHASIS, 2), (_UNDERLINED, 1), (_FORMULA, 1)):
        folded = pattern.sub(lambda match, kept=kept: match[kept], folded)
    return folded


def _without_latex(folded: str) -> str:
    """`\\(x^{2} \\le \\frac{1}{2}\\)` as `x^2 ≤1/2`."""
    folded = _DISPLAYED.sub(lambda match: next(group for group in match.groups() if group is not None), folded)
    folded = _COMMAND.sub(lambda match: _COMMANDS[match[1]], folded)
    folded = _FRACTION.sub(r"\1/\2", _BRACED.sub(r"\1", _BOXED.sub(r"\1", folded)))
    return str(_ESCAPED.sub(lambda match: match[1] or " ", folded))


def is_expression(text: str) -> bool:
    """Whether a text has only numbers, symbols and single letters: there, `5!` is a factorial."""
    return _WORD.search(text) is None


def _square(sign: str) -> str:
    """㎡ as m²: one step of NFKC."""
    parts = unicodedata.decomposition(sign).split()
    return "".join(chr(int(part, 16)) for part in parts if not part.startswith("<")) or sign
