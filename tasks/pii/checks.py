"""Confirms the candidates of a pattern (patterns.py): by check digits, by a number plan, or by their context.

A pattern's group `x` is the value. A check returns the exclusive end of the confirmed value, or 0 to reject it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from tasks.pii.context import is_mailbox, is_number_of_a_person

_FILE_ENDINGS = {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "html", "py", "json", "txt", "pdf", "zip"}
"""`logo@2x.png` is not an address."""
_ISSUED = re.compile(
    "4(?:[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:2[2-9]|[3-6][0-9]|7[01])[0-9]{13}|3[47][0-9]{13}"
    "|3(?:0[0-5]|[689][0-9])[0-9]{11}|35[0-9]{14}|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12}|62[0-9]{14,17}"
)
"""Numbers of card networks: Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay."""
_VERSION = re.compile(
    r"(?:(?:\bv|\bver|version|release|build|section|chapter|clause|§|版本|版|章节|小节|第|升级[到至]?|更新[到至]?)[\s.:：]*"
    r"|(?:upgrad|updat|downgrad|releas|install)[a-z]*(?: to| from)?\s*|[=~><!]=\s*|[A-Za-z]/)$",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<![A-Za-z])[A-Z][A-Za-z]+[ ]$")
"""A name right before small numbers is the name of a program: `OpenSSL 1.1.1.25`."""
_NETWORK = re.compile(
    r"\bips?\b|\bipv4\b|address|server|host|dns|ping|subnet|gateway|router|network|://|地址|服务器|主机|网关|路由|网络",
    re.IGNORECASE,
)
_NETWORK_WORD = re.compile(r"\bips?\b|\bipv4\b")
_NETWORK_PARTS = ("address", "server", "host", "dns", "ping", "subnet", "gateway", "router", "network", "://")
"""The words of _NETWORK for ASCII texts, at a fraction of the time."""
_PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")
_DATE = re.compile(r"[12][0-9]{3}[ .\-/](?:0?[1-9]|1[0-2])[ .\-/](?:0?[1-9]|[12][0-9]|3[01])(?![0-9])")

Check = Callable[[str, re.Match[str]], int]
"""Text and match → the end of the confirmed value, or 0."""


def accept(text: str, match: re.Match[str]) -> int:
    return match.end("x")


def is_address(text: str, match: re.Match[str]) -> int:
    if match["x"].rpartition(".")[2].lower() in _FILE_ENDINGS:
        return 0
    return match.end("x") if is_mailbox(text, *match.span("x")) else 0


def is_number(text: str, match: re.Match[str]) -> int:
    """A number that only its context can confirm."""
    return match.end("x") if is_number_of_a_person(text, *match.span("x")) else 0


def is_american(text: str, match: re.Match[str]) -> int:
    """A North American number; `900-250-1000`, all multiples of fifty, is a subtraction."""
    parts = re.findall("[0-9]+", match["x"])[-3:]
    return 0 if all(int(part) % 50 == 0 for part in parts) else is_number(text, match)


def is_card(text: str, match: re.Match[str]) -> int:
    from stdnum import luhn

    digits = re.sub("[ -]", "", match["x"])
    return is_number(text, match) if _ISSUED.fullmatch(digits) and luhn.is_valid(digits) else 0


def is_iban(text: str, match: re.Match[str]) -> int:
    start = match.start("x")
    # the longest first: capitals after the number look like a part of it
    ends = reversed(_ends_with_check_digits(match["x"]))
    return next((start + end for end in ends if _is_iban(text[start : start + end])), 0)


@lru_cache(maxsize=4096)
def _is_iban(text: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(text, check_country=False))


def _ends_with_check_digits(number: str) -> list[int]:
    """The ends of valid prefixes of `number`: the remainder by 97 is 1 there (ISO 13616). Letters count from 10."""
    country = int("".join(str(int(character, 36)) for character in number[:4]))
    ends, remainder = [], 0
    for position, character in enumerate(number[4:], start=5):
        if character == " ":
            continue
        value = int(character, 36)
        remainder = (remainder * (10 if value < 10 else 100) + value) % 97
        if position >= 15 and (remainder * 1_000_000 + country) % 97 == 1:  # two letters and two digits: six digits
            ends.append(position)
    return ends


def is_resident(text: str, match: re.Match[str]) -> int:
    from stdnum.cn import ric

    number = match["x"].upper()
    return is_number(text, match) if ric.calc_check_digit(number) == number[-1] else 0


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
        return 0  # a loopback address, a network mask or a version is not personal
    is_named = max(octets[:3]) < 20 and _NAME.search(text[max(match.start() - 24, 0) : match.start()])
    if max(octets) >= 20 and not is_named:
        return match.end("x")
    around = text[max(match.start() - 40, 0) : match.end() + 20]
    return match.end("x") if _is_about_networks(_PLACEHOLDER.sub("", around) if "[" in around else around) else 0


def _is_about_networks(text: str) -> bool:
    if not text.isascii():
        return _NETWORK.search(text) is not None
    low = text.lower()
    return any(part in low for part in _NETWORK_PARTS) or _NETWORK_WORD.search(low) is not None


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
    start, end = match.span("x")
    if not is_number_of_a_person(text, start, end):
        return 0
    separators = reversed(list(re.finditer(r"(?<=[0-9])[ .()\-]", match["x"])))
    for end_of_number in (end, *(start + separator.start() for separator in separators)):  # another number may follow
        if _is_phone_number(_NOT_DIGIT.sub("", text[start:end_of_number]).lstrip("0")):
            return end_of_number
    return 0


_NOT_DIGIT = re.compile("[^0-9]+")


@lru_cache(maxsize=4096)
def _is_phone_number(digits: str) -> bool:
    """Is it a valid number with its country code?"""
    import phonenumbers

    if not _may_be_phone_number(digits):
        return False
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse("+" + digits, None)))
    except phonenumbers.NumberParseException:
        return False


def _may_be_phone_number(digits: str) -> bool:
    """A cheap check before `phonenumbers` parses it: does it have the length of a number of its country, with or without prefix?"""
    code = next((digits[:size] for size in (1, 2, 3) if digits[:size] in _country_codes()), "")
    if not code:
        return False
    lengths, prefix, is_rewritten = _number_plan(code)
    rest = digits[len(code) :]
    if not lengths or len(rest) in lengths:
        return True
    match = prefix.match(rest) if prefix is not None else None
    return match is not None and (is_rewritten or len(rest) - match.end() in lengths)


@cache
def _country_codes() -> frozenset[str]:
    import phonenumbers

    return frozenset(str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE)


@cache
def _number_plan(code: str) -> tuple[frozenset[int], re.Pattern[str] | None, bool]:
    """The lengths of a country's numbers (empty if unknown), its national prefix, and whether the prefix rewrites the digits."""
    import phonenumbers
    from phonenumbers import PhoneMetadata

    lengths: set[int] = set()
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]
    plans: list[Any] = [PhoneMetadata.metadata_for_region_or_calling_code(int(code), region) for region in regions]
    if not all(plan is not None and plan.general_desc and plan.general_desc.possible_length for plan in plans):
        return frozenset(), None, True
    for plan in plans:
        lengths.update(plan.general_desc.possible_length)
    prefix = plans[0].national_prefix_for_parsing
    return frozenset(lengths), re.compile(prefix) if prefix else None, bool(plans[0].national_prefix_transform_rule)


def is_not_a_date(text: str, match: re.Match[str]) -> int:
    return 0 if _DATE.match(match["x"]) else match.end("x")
