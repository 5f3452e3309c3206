"""Confirms what a pattern of `pii_patterns` proposes: by check digits, by a number plan, or by what stands around it.

Each pattern's group `x` is the value itself. A check returns the place after its last character, or 0 to refuse it.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable

_FILE_ENDINGS = {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "py", "json", "txt", "pdf", "zip"}
"""`logo@2x.png` is no address."""
_ISSUED = re.compile(
    "4(?:[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:2[2-9]|[3-6][0-9]|7[01])[0-9]{13}|3[47][0-9]{13}"
    "|3(?:0[0-5]|[689][0-9])[0-9]{11}|35[0-9]{14}|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}|62[0-9]{14,17}"
)
"""Numbers that a card network issues: Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay."""
_VERSION = re.compile(
    r"(?:\bv|\bver|version|release|build|section|chapter|clause|§|版本|版|章节|小节|第)[\s.:：]*$", re.IGNORECASE
)
_NETWORK = re.compile(
    r"\bips?\b|\bipv4\b|address|server|host|dns|ping|subnet|gateway|router|network|://|地址|服务器|主机|网关|路由|网络",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")
_DATE = re.compile(r"[12][0-9]{3}[ .\-/](?:0?[1-9]|1[0-2])[ .\-/](?:0?[1-9]|[12][0-9]|3[01])(?![0-9])")
_BITS_OF_A_TOKEN = 3.4
"""Shannon entropy a character: words and repeated characters are below it, 20 random ones above."""

Check = Callable[[str, re.Match[str]], int]
"""Text and match → the end of what is confirmed, 0 where nothing is."""


def accept(text: str, match: re.Match[str]) -> int:
    return match.end("x")


def is_address(text: str, match: re.Match[str]) -> int:
    return 0 if match["x"].rpartition(".")[2].lower() in _FILE_ENDINGS else match.end("x")


def is_card(text: str, match: re.Match[str]) -> int:
    from stdnum import luhn

    digits = re.sub("[ -]", "", match["x"])
    return match.end("x") if _ISSUED.fullmatch(digits) and luhn.is_valid(digits) else 0


def is_iban(text: str, match: re.Match[str]) -> int:
    from stdnum import iban

    ends = [place for place in range(match.start("x") + 15, match.end("x") + 1) if text[place - 1] != " "]
    # the longest first: capitals that follow the number look like a part of it
    return next((end for end in reversed(ends) if iban.is_valid(text[match.start("x") : end], check_country=False)), 0)


def is_resident(text: str, match: re.Match[str]) -> int:
    from stdnum.cn import ric

    number = match["x"].upper()
    return match.end("x") if ric.calc_check_digit(number) == number[-1] else 0


def is_cpf(text: str, match: re.Match[str]) -> int:
    from stdnum.br import cpf

    return match.end("x") if cpf.is_valid(match["x"]) else 0


def is_hong_kong(text: str, match: re.Match[str]) -> int:
    letters, digits, check = match["letters"].rjust(2), match["digits"], match["check"]
    values = [36 if letter == " " else ord(letter) - 55 for letter in letters] + [int(digit) for digit in digits]
    total = sum(value * weight for value, weight in zip(values, range(9, 1, -1), strict=True))
    return match.end("x") if "0A987654321"[total % 11] == check else 0


def is_ip4(text: str, match: re.Match[str]) -> int:
    octets = [int(part) for part in match["x"].split(".")]
    if (
        max(octets) > 255
        or octets[0] in (0, 127, 255)
        or _VERSION.search(text[max(match.start() - 24, 0) : match.start()])
    ):
        return 0  # this machine, a network mask or a version names nobody
    around = text[max(match.start() - 40, 0) : match.end() + 20]
    return 0 if max(octets) < 20 and not _NETWORK.search(_PLACEHOLDER.sub("", around)) else match.end("x")


def is_ip6(text: str, match: re.Match[str]) -> int:
    groups = [group for group in match["x"].split(":") if group]
    if not any(c.isdigit() for c in match["x"]) or not (len(groups) >= 4 or (len(groups) >= 2 and len(groups[0]) == 4)):
        return 0
    try:
        ipaddress.IPv6Address(match["x"])
    except ValueError:
        return 0
    return match.end("x")


def is_international(text: str, match: re.Match[str]) -> int:
    import phonenumbers

    start, end = match.span("x")
    ends = [end, *(start + found.start() for found in reversed(list(re.finditer(r"(?<=[0-9])[ .()\-]", match["x"]))))]
    for each in ends:  # another number may follow
        try:
            number = phonenumbers.parse("+" + text[start:each].lstrip("+0"), None)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return each
    return 0


def is_no_date(text: str, match: re.Match[str]) -> int:
    return 0 if _DATE.match(match["x"]) else match.end("x")


def is_random(text: str, match: re.Match[str]) -> int:
    token = match["x"]
    share = [count / len(token) for count in Counter(token).values()]
    bits = -sum(part * math.log2(part) for part in share)
    return (
        match.end("x") if bits >= _BITS_OF_A_TOKEN and re.search("[0-9]", token) and re.search("[A-Za-z]", token) else 0
    )
