"""Detectors of personal data and secrets: a kind, a pattern that proposes, and a check that confirms.

A gate is a cheap test; the patterns of a gate are matched only where it passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.pii import checks, secrets

Kind = Literal["secret", "email", "iban", "national_id", "card", "ip", "phone"]
KINDS: tuple[Kind, ...] = ("secret", "email", "iban", "national_id", "card", "ip", "phone")
"""In order of precedence: of two overlapping spans, the merged one has the earlier kind."""


@dataclass(frozen=True)
class Gate:
    """A cheap test that most texts do not pass, and the windows in which its patterns are matched."""

    is_open: Callable[[str], object]
    spot: re.Pattern[str] | None = None
    """A window surrounds each match; None: the window is the whole text."""
    before: int = 0
    """Characters of a window before the spot."""
    after: int = 0

    def windows(self, text: str) -> Iterator[tuple[int, int]]:
        """(start, end) of each window, in order, without overlaps."""
        if self.spot is None:
            yield 0, len(text)
            return
        start = end = 0
        for match in self.spot.finditer(text):
            if end and match.start() - self.before > end:
                yield start, end
                end = 0
            start = start if end else max(match.start() - self.before, 0)
            end = min(match.end() + self.after, len(text))
        if end:
            yield start, end


@dataclass(frozen=True)
class Detector:
    kind: Kind
    gate: Gate
    pattern: re.Pattern[str]
    """Its group `x` is the value."""
    check: checks.Check


_MARKS = ("AKIA", "ASIA", "glpat-", "sk-", "xox", "AIza", "eyJ", "-----BEGIN", "earer ")
_MARKS_WITH_LINE = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "k_live_")


def _has_mark(text: str) -> bool:
    for mark in _MARKS:  # a loop: half the price of any() over a generator
        if mark in text:
            return True
    return "_" in text and any(mark in text for mark in _MARKS_WITH_LINE)


def _gate(spot: str, before: int, after: int, first: str = "") -> Gate:
    return Gate(re.compile(first or spot).search, re.compile(spot), before, after)


_AT = Gate(lambda text: "@" in text, re.compile("@"), 66, 330)
_DIGITS = _gate(r"[0-9](?:[ .()\-]{0,2}[0-9]){5,}", 48, 48, first=r"[0-9](?:[ .()\-]{0,2}[0-9]){5}")
_DOTTED = _gate(r"\.[0-9]{1,3}\.[0-9]", 8, 12)
_COLONS = _gate(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]", 40, 40)
_ASSIGNED = _gate(r"[=:：] {0,2}[\"']?[A-Za-z0-9_\-/+.]{16}", 40, 500)
_MARKED = Gate(_has_mark)
GATES: tuple[Gate, ...] = (_AT, _DIGITS, _DOTTED, _COLONS, _ASSIGNED, _MARKED)

_NOT_IN_WORD = r"(?<![A-Za-z0-9_\-])"
_MOBILE_CN = "1(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-35-9])"
_AREA_CN = "0(?:10|2[0-9]|[3-9][0-9]{2})"
_OCTET = "(?:0|[1-9][0-9]{0,2})"
_CALLED = (
    "(?<![A-Za-z])(?:(?:phone|telephone|tel|mobile|cell|fax|whatsapp|电话|手机|手机号|联系方式|传真|座机|固话|热线)"
    "(?: ?(?:number|no|num|号码|号))?[.。]? ?(?:is|是|为)? ?[:：#=]? ?"
    "|(?:call|dial|ring|text|reach|phone)(?: (?:me|us|him|her|them))?(?: back)? (?:at|on) )"
)
_NAMED_KEY = (
    "(?:api[_ -]?key|access[_ -]?key|secret(?:[_ -]?key)?|auth[_ -]?token|access[_ -]?token|token|private[_ -]?key"
    "|client[_ -]?secret|密钥|令牌)"
)


def _detector(kind: Kind, gate: Gate, pattern: str, check: checks.Check = checks.accept, flags: int = 0) -> Detector:
    return Detector(kind, gate, re.compile(pattern, flags), check)


DETECTORS: tuple[Detector, ...] = (
    _detector(
        "email", _AT,
        r"(?:(?<![A-Za-z0-9._%+\-À-ɏ])(?<!\\(?=[nrt]))|(?<=\\[nrt]))"  # the `n` of an escaped \n is not part of the address
        r"(?P<x>[A-Za-z0-9_%+\-À-ɏ][A-Za-z0-9._%+\-À-ɏ]{0,63}"
        r"@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9]|_[A-Za-z0-9])",
        checks.is_address,
    ),
    _detector("secret", _AT, r"://[^\s/:@\"'<>]{0,20}:(?P<x>[^\s/:@\"'<>\[\]]{3,40})(?=@)", secrets.is_password),
    # phones: international, Chinese mobile, Chinese landline, North American, and any number labelled as one
    _detector("phone", _DIGITS, r"(?<![0-9A-Za-z+])(?P<x>(?:\+|00 ?)[1-9](?:[ .()\-]{0,2}[0-9]){6,14})(?![0-9])",
              checks.is_international),
    _detector("phone", _DIGITS, rf"(?<![0-9A-Za-z._\-/=])(?P<x>(?:(?:\+|00)?86[ \-]?)?{_MOBILE_CN}"
              r"(?:[0-9]{8}|([ \-])[0-9]{4}\2[0-9]{4}))(?![0-9A-Za-z_]|[.\-][0-9])", checks.is_number),
    _detector("phone", _DIGITS, rf"(?<![0-9A-Za-z.\-])(?P<x>(?:{_AREA_CN}-|[(（]{_AREA_CN}[)）] ?)"
              r"(?:[2-9][0-9]{6,7}|[2-9][0-9]{2,3} [0-9]{4}))(?![0-9]|[.\-][0-9])", checks.is_number),
    _detector("phone", _DIGITS, r"(?<![0-9A-Za-z.\-/])(?P<x>(?:\+?1[ .\-]?)?(?:\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ .\-]"
              r"|[2-9][0-9]{2}-[2-9][0-9]{2}-|[2-9][0-9]{2}\.[2-9][0-9]{2}\.)[0-9]{4})(?![0-9]|[.\-][0-9])", checks.is_american),
    _detector("phone", _DIGITS, rf"{_CALLED}(?P<x>[(+]?[0-9](?:[ .()\-]{{0,2}}[0-9]){{6,11}})(?![0-9])",
              checks.is_not_a_date, re.IGNORECASE),
    _detector("card", _DIGITS, r"(?<![0-9.\-])(?P<x>[0-9]{13,19}|[0-9]{4}([ \-])[0-9]{4}\2[0-9]{4}\2[0-9]{1,4}(?:\2[0-9]{3})?"
              r"|3[0-9]{3}([ \-])[0-9]{6}\3[0-9]{4,5})(?![0-9]|[.\-][0-9])", checks.is_card),
    _detector("iban", _DIGITS, r"(?<![A-Za-z0-9])(?P<x>[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30})(?![a-z])", checks.is_iban),
    # national ids: China, United States, United Kingdom, Hong Kong, Brazil
    _detector("national_id", _DIGITS, r"(?<![0-9])(?P<x>[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])"
              r"(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx])(?![0-9A-Za-z])", checks.is_resident),
    _detector("national_id", _DIGITS, r"(?<![0-9\-])(?P<x>(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4})(?![0-9\-])",
              checks.is_number),
    _detector("national_id", _DIGITS, r"(?<![A-Za-z])(?:ssn|social security(?: number)?)(?: no)?[.]? ?(?:is)? ?[:#=]? ?"
              r"(?P<x>(?!000|666|9)[0-9]{9})(?![0-9])", checks.accept, re.IGNORECASE),
    _detector("national_id", _DIGITS, r"(?<![0-9.\-])(?P<x>[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2})(?![0-9\-])", checks.is_cpf),
    _detector("national_id", _DIGITS, r"(?<![A-Za-z0-9])(?P<x>[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2}"
              r" ?[A-D])(?![A-Za-z0-9])", checks.is_number),
    _detector("national_id", _DIGITS, r"(?<![A-Za-z0-9])(?P<x>(?P<letters>[A-Z]{1,2})(?P<digits>[0-9]{6})"
              r"[(（](?P<check>[0-9A])[)）])", checks.is_hong_kong),
    _detector("ip", _DOTTED, rf"(?<![0-9A-Za-z.\-])(?P<x>{_OCTET}(?:\.{_OCTET}){{3}})(?![0-9A-Za-z]|\.[0-9])",
              checks.is_ip4),
    _detector("ip", _COLONS, r"(?<![0-9A-Za-z:.])(?P<x>(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4})(?![0-9A-Za-z:])", checks.is_ip6),
    _detector("secret", _MARKED, r"(?P<x>-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
              r"[\s\S]*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z))"),
    _detector("secret", _MARKED, rf"{_NOT_IN_WORD}(?P<x>(?:AKIA|ASIA)[A-Z2-7]{{16}})(?![A-Za-z0-9])"),
    _detector("secret", _MARKED, rf"{_NOT_IN_WORD}(?P<x>gh[opurs]_[A-Za-z0-9]{{36,251}}|github_pat_[A-Za-z0-9_]{{22,255}}"
              r"|glpat-[A-Za-z0-9_\-]{20,64}|hf_[A-Za-z0-9]{30,64}|[rs]k_live_[A-Za-z0-9]{16,128}"
              r"|xox[abeoprs]-[A-Za-z0-9\-]{10,255}|AIza[A-Za-z0-9_\-]{35})(?![A-Za-z0-9])", secrets.is_varied),
    _detector("secret", _MARKED, rf"{_NOT_IN_WORD}(?P<x>sk-[A-Za-z0-9_\-]{{20,255}})(?![A-Za-z0-9])", secrets.is_random),
    _detector("secret", _MARKED, r"(?<![A-Za-z0-9_\-.])(?P<x>eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*)"),
    _detector("secret", _MARKED, r"[Bb]earer +(?P<x>[A-Za-z0-9._~+/\-]{20,}=*)", secrets.is_random),
    _detector("secret", _ASSIGNED, rf"{_NAMED_KEY}[\"']?\s{{0,2}}[=:：] {{0,2}}[\"']?(?P<x>[A-Za-z0-9_\-/+.]{{16,}}=*)",
              secrets.is_random, re.IGNORECASE),
)  # fmt: skip
