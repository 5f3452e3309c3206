"""A labelled sample of synthetic texts with personal data and secrets, and of lookalikes. It contains no real person's data."""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from pii_sentences import ALIKE, HOLDING

KINDS = ("email", "phone", "card", "iban", "ip", "national_id", "secret")
LETTERS_AND_DIGITS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Sample:
    text: str
    kind: str
    """The kind that the text contains, or resembles."""
    start: int = -1
    """Start of the value; -1 if there is none."""
    end: int = -1


def make_sample(count: int, seed: int) -> list[Sample]:
    """Half of the texts contain one value, half contain none. Kinds alternate, and each uses all its sentences in turn."""
    draw = random.Random(seed)
    values = {kind: itertools.cycle(makers) for kind, makers in VALUES.items()}
    sentences = {kind: itertools.cycle(lines) for kind, lines in HOLDING.items()}
    likes = {kind: itertools.cycle(lines) for kind, lines in ALIKE.items()}
    kinds = itertools.cycle(KINDS)
    samples = []
    for number in range(count // 2):
        kind = next(kinds)
        maker, sentence = next(values[kind])
        before, _, after = (sentence or next(sentences[kind])).partition("{x}")
        value = maker(draw)
        samples.append(Sample(before + value + after, kind, len(before), len(before) + len(value)))
        line = next(likes[KINDS[number % len(KINDS)]])
        samples.append(Sample(_filled(line, draw), kind))
    return samples


def _filled(line: str, draw: random.Random) -> str:
    """{#3} becomes three digits, none of them 0; {h40} becomes forty hexadecimal digits."""
    parts = line.split("{")
    text = parts[0]
    for part in parts[1:]:
        rule, closed, rest = part.partition("}")
        if closed and rule[:1] in "#h" and rule[1:].isdigit():
            characters = {"#": "123456789", "h": "0123456789abcdef"}[rule[0]]
            text += "".join(draw.choices(characters, k=int(rule[1:]))) + rest
        else:
            text += "{" + part
    return text


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices(string.digits, k=count))


_NAMES = ("jane", "li.lei", "o_brien", "Maria-Sol", "k", "zhang.wei99", "sales+eu", "3rd.party", "x_y_z")
_DOMAINS = (
    *("example.org", "mail.example.co.uk", "qq.com", "uni-koeln.example.de", "example.com.cn", "EXAMPLE.COM", "a-b.io"),
    *("shop.example.museum", "corp.example.tech", "example.photography"),
)


def _email(draw: random.Random) -> str:
    return f"{draw.choice(_NAMES)}{draw.choice(['', _digits(draw, 2)])}@{draw.choice(_DOMAINS)}"


def _mobile(form: str) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        head = draw.choice(["138", "139", "150", "186", "199", "177"])
        return form.format(head, _digits(draw, 4), _digits(draw, 4))

    return make


def _landline(draw: random.Random) -> str:
    return f"{draw.choice(['010', '021', '0755', '0571'])}-{draw.randint(2, 8)}{_digits(draw, 7)}"


def _american(form: str) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        area = draw.choice(["212", "415", "303", "617", "312", "206"])
        return form.format(area, f"{draw.randint(2, 8)}{draw.randint(20, 99)}", _digits(draw, 4))

    return make


_ABROAD = (
    "+44 20 79## ####",
    "+49 30 2#######",
    "+33 1 42 ## ## ##",
    "+81 3-3###-####",
    "+61 2 92## ####",
    "+91 98### #####",
)


def _foreign(draw: random.Random) -> str:
    return "".join(_digits(draw, 1) if character == "#" else character for character in draw.choice(_ABROAD))


def _card(form: str) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        prefix, length = draw.choice([("4", 16), ("52", 16), ("6225", 16), ("55", 16)]) if form else ("37", 15)
        number = prefix + _digits(draw, length - len(prefix) - 1)
        total = sum(
            sum(divmod(2 * int(digit), 10)) if index % 2 == 0 else int(digit)
            for index, digit in enumerate(reversed(number))
        )
        number += str(-total % 10)
        return form.join(number[i : i + 4] for i in range(0, length, 4)) if form else number

    return make


def _plain_card(draw: random.Random) -> str:
    return _card(" ")(draw).replace(" ", "")


_BANKS = {
    "DE": "##################",
    "GB": "NWBK##############",
    "NL": "ABNA0#########",
    "FR": "#" * 23,
    "ES": "#" * 20,
}


def _iban(form: str) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        country, bank = draw.choice(list(_BANKS.items()))
        bank = "".join(_digits(draw, 1) if character == "#" else character for character in bank)
        number = int("".join(str(int(character, 36)) for character in f"{bank}{country}00"))
        whole = f"{country}{98 - number % 97:02}{bank}"
        return form.join(whole[i : i + 4] for i in range(0, len(whole), 4)) if form else whole

    return make


def _address(draw: random.Random) -> str:
    return (
        f"{draw.choice([203, 198, 172, 93, 61])}.{draw.randint(1, 254)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}"
    )


def _address6(draw: random.Random) -> str:
    return "2001:db8:" + ":".join(f"{draw.randint(1, 65535):x}" for _ in range(6))


def _resident(draw: random.Random) -> str:
    born = f"19{draw.randint(60, 99)}0{draw.randint(1, 9)}1{draw.randint(0, 9)}"
    number = f"{draw.choice(['110105', '310104', '440306'])}{born}{_digits(draw, 3)}"
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    return number + "10X98765432"[sum(int(d) * w for d, w in zip(number, weights, strict=True)) % 11]


def _social(draw: random.Random) -> str:
    return f"{draw.randint(101, 599)}-{draw.randint(10, 99)}-{draw.randint(1000, 9999)}"


def _insured(draw: random.Random) -> str:
    return f"{draw.choice(['AB', 'JK', 'SP'])} {' '.join(str(draw.randint(10, 99)) for _ in range(3))} {draw.choice('ABCD')}"


def _cpf(draw: random.Random) -> str:
    digits = [draw.randint(0, 9) for _ in range(9)]
    for _ in range(2):
        total = sum(digit * weight for digit, weight in zip(digits, range(len(digits) + 1, 1, -1), strict=True))
        digits.append(total * 10 % 11 % 10)
    whole = "".join(map(str, digits))
    return f"{whole[:3]}.{whole[3:6]}.{whole[6:9]}-{whole[9:]}"


def _random(prefix: str, count: int, characters: str = LETTERS_AND_DIGITS) -> Callable[[random.Random], str]:
    def make(draw: random.Random) -> str:
        tail = "".join(draw.choices(characters, k=count - 2))
        return prefix + tail + draw.choice(string.digits) + draw.choice("KQZ" if characters.isupper() else "kQz")

    return make


def _aws(draw: random.Random) -> str:
    return "AK" + "IA" + "".join(draw.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))


def _jwt(draw: random.Random) -> str:
    head, body = ("J" + "".join(draw.choices(LETTERS_AND_DIGITS, k=24)) for _ in range(2))
    return f"ey{head}.ey{body}.{_random('', 30)(draw)}"


_KEY = _random("", 28)
VALUES: dict[str, list[tuple[Callable[[random.Random], str], str]]] = {
    "email": [(_email, "")],
    "phone": [
        (_mobile("{}{}{}"), ""), (_american("({}) {}-{}"), ""), (_mobile("{}-{}-{}"), ""), (_foreign, ""), (_landline, ""),
        (_american("{}-{}-{}"), ""), (_mobile("+86 {} {} {}"), ""), (_american("+1 {} {} {}"), ""),
        (lambda draw: f"020 7946 {_digits(draw, 4)}", "Her telephone number is {x}."),
        (lambda draw: f"5{_digits(draw, 6)}", "Tel.: {x} (office)"),
    ],
    "card": [(_card(" "), ""), (_plain_card, ""), (_card("-"), ""), (_card(""), "")],
    "iban": [(_iban(" "), ""), (_iban(""), "")],
    "ip": [
        (_address, ""), (_address6, ""), (_address, ""),
        (lambda draw: f"10.{draw.randint(0, 9)}.1.{draw.randint(1, 19)}", "ping {x} 不通，检查网关"),
    ],
    "national_id": [
        (_resident, ""), (_social, ""), (_insured, ""), (_cpf, ""), (_resident, "身份证号码：{x}"), (_social, "SSN: {x}"),
    ],
    "secret": [
        (_aws, ""), (_random("gh" + "p_", 36), ""), (_random("sk" + "-proj-", 40), ""), (_jwt, ""), (_random("hf" + "_", 34), ""),
        (_KEY, 'api_key = "{x}"'), (_KEY, "Authorization: Bearer {x}"), (_KEY, "访问密钥：{x}，请勿外传"),
        (_KEY, "client_secret={x}&grant=1"), (_random("xo" + "xb-", 40), ""), (_random("gl" + "pat-", 20), ""),
        (_KEY, "ACCESS_TOKEN: '{x}'"), (_KEY, "curl https://bob:{x}@example.com/feed"),
    ],
}  # fmt: skip
"""Kind → functions that generate its values, and for some the only sentence in which such a value is used."""
