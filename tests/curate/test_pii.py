"""Personal data and secrets are detected in English and Chinese, other numbers are kept, and masking is idempotent."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.realdata import real

from tasks.pii.edits import apply
from tasks.pii.mask import PiiSpan, find, kinds_in, mask, may_hold
from tasks.pii.mask_texts import mask_texts
from tasks.pii.settings import PiiSettings

# none of these is anybody's: they are the published examples, or made here; in halves, so that no scanner trips over them
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
OPENAI = "sk-" + "proj-8fG3kL0pQ2rT5vX7zB9nM1cD4eH6jW"
SLACK = "xoxb-" + "2048-4096-AbCdEfGhIjKlMnOp"
GOOGLE = "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY"
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0" + ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
RANDOM = "9aF3kQ7zXw2LmB8cVt5RyU1p"

EXAMPLES = [
    ("email", "Write to ", "jane.doe+news@mail.example.co.uk", ", please."),
    ("email", "请写信到", "zhang_san@example.cn", "联系我。"),
    ("email", "邮箱：", "ｚｓ＠ｅｘａｍｐｌｅ．ｃｎ", "。"),
    ("phone", "Ring ", "+44 20 7946 0958", " after nine."),
    ("phone", "Ring ", "(212) 555-0147", " after nine."),
    ("phone", "Ring ", "212-555-0147", ", or not."),
    ("phone", "My phone number is ", "020 7946 0958", "."),
    ("phone", "我的手机号是", "13812345678", "，晚上打。"),
    ("phone", "请拨打", "+86 138 1234 5678", "。"),
    ("phone", "微信同号", "139-1234-5678", "谢谢"),
    ("phone", "办公室", "010-87654321", "转"),
    ("phone", "办公室", "021-6234 5678", "转"),
    ("phone", "手机", "１３８１２３４５６７８", "。"),
    ("card", "Charge ", "4111 1111 1111 1111", " today."),
    ("card", "卡号", "6222021234567890128", "请核对"),
    ("card", "Amex ", "3782-822463-10005", "."),
    ("iban", "Pay to ", "DE89 3704 0044 0532 0130 00", " TODAY OR NEVER"),
    ("iban", "账户", "GB29NWBK60161331926819", "，谢谢"),
    ("ip", "He came from ", "203.0.113.77", "."),
    ("ip", "服务器", "10.1.2.3", "不通"),
    ("ip", "bound to ", "2001:db8:85a3::8a2e:370:7334", " now"),
    ("national_id", "身份证号", "11010519491231002X", "已登记"),
    ("national_id", "SSN ", "219-09-9999", "."),
    ("national_id", "NINO ", "AB 12 34 56 C", "."),
    ("national_id", "香港身份证", "A123456(3)", "。"),
    ("national_id", "CPF ", "529.982.247-25", "."),
    ("secret", "key ", AWS, " leaked"),
    ("secret", "令牌", GITHUB, "泄露"),
    ("secret", "use ", OPENAI, " for it"),
    ("secret", "bot ", SLACK, "."),
    ("secret", "maps ", GOOGLE, " x"),
    ("secret", "cookie=", JWT, ";"),
    ("secret", "Authorization: Bearer ", RANDOM, "\n"),
    ("secret", 'api_key = "', RANDOM, '"'),
    ("secret", "密钥：", RANDOM, "。"),
    ("secret", "", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "\n"),
    ("secret", "cut: ", "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAK", ""),
]


@pytest.mark.parametrize(("kind", "before", "value", "after"), EXAMPLES)
def test_each_kind_is_found_at_its_place_in_both_languages(kind: str, before: str, value: str, after: str) -> None:
    text = before + value + after
    assert may_hold(text)
    assert [(f.kind, text[f.start : f.end]) for f in find(text)] == [(kind, value)]
    assert mask(text, find(text)) == f"{before}[{kind.upper()}]{after}"


@pytest.mark.parametrize(
    "text",
    [
        "Version 1.2.3 follows release 10.4.0.12, and v2.0.1.300 comes later.",
        "见第3.2.1.4节，版本 12.0.1.7。",
        "It listens on 127.0.0.1 with the mask 255.255.255.0 and 0.0.0.0.",
        "The match of 2019-05-12 ended 3-1 at 12:30:45, seen by 1234567 people.",
        "In 1939-1945, 1,000,000 and 3.14159265358979 are numbers; so is 20231105123059.",
        "订单号 20231105123456789，金额 1234567.89 元，共 1000000 人。",
        "4111 1111 1111 1112 fails its check digit, and so does 11010519491231002 1.",
        "身份证 110105194912310021 的校验位不对。",
        "DE89 3704 0044 0532 0130 01 is no account.",
        "std::vector<int>, ::1 and a MAC aa:bb:cc:dd:ee:ff are no addresses.",
        "Ask @openai, or open logo@2x.png; the price is $5@ea.",
        "sk-learn-is-not-a-key-but-a-library, and token: aaaaaaaaaaaaaaaaaaaa is no secret.",
        "The token: see-the-documentation-of-the-library for more.",
        "3600000000000 + 62426244000 + 198472480 is a sum, and 4212883012996 its result.",
        "ISBN 978-0-306-40615-7 and 0.13812345678 and /item/13812345678 are no phones.",
        "作为一个例子，他在2020年出生，编号1234567890123。",
    ],
)
def test_numbers_that_only_look_alike_are_left_alone(text: str) -> None:
    assert find(text) == []


def test_finds_that_overlap_become_one_that_covers_both() -> None:
    text = "write to 13812345678@example.cn now"
    assert find(text) == [PiiSpan(9, 31, "email")]


def test_placeholders_are_not_taken_for_anything() -> None:
    text = "[EMAIL] [PHONE] [CARD] [IBAN] [IP] [NATIONAL_ID] [SECRET]"
    assert find(text) == []


def test_masking_one_find_does_not_set_another_free() -> None:
    text = "+1 212 555 0147 13812345678 219-09-9999-4111 1111 1111 1111"
    once = mask(text, find(text))
    assert find(once) == []
    assert not any(len(part) > 5 for part in once.split() if part.isdigit())


PIECES = [value for _, _, value, _ in EXAMPLES] + [before for _, before, _, _ in EXAMPLES]
NOISE = st.text(alphabet="0123456789+-. ()@:/=[]abXE电话，０Ａ＠", max_size=12)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), NOISE, st.text(max_size=8)), max_size=8).map("".join))
def test_masking_twice_is_masking_once(text: str) -> None:
    result = find(text)
    assert all(0 <= each.start < each.end <= len(text) for each in result)
    assert all(a.end <= b.start for a, b in pairwise(result))
    assert bool(result) <= may_hold(text)
    once = mask(text, result)
    assert find(once) == []
    assert mask(once, find(once)) == once


@pytest.mark.parametrize(
    "unit", ["a", "1", "1.", "1-", "a@", ":", "A1", "1 ", "sk-", "eyJ.", "电话", "=aaaaaaaaaaaaaaaa", "(1"]
)
def test_no_text_makes_the_search_slow(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    began = time.process_time()
    find(text)
    assert time.process_time() - began < 5


def test_ten_thousand_real_questions_hold_nothing() -> None:
    files = sorted(real("banking77").glob("*.csv"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 9_000
    assert [line for line in lines if find(line)] == []


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:acme/tools.git",
        "origin\tgit@gitee.com:团队/库.git (fetch)",
        "pip install git+ssh://git@git.example.org/acme/x.git@v1.2",
        "scp file.txt deploy@build.example:/srv",
        "rsync -avz ./ user@host.example.com:backup",
        "ssh -i key.pem ec2-user@ec2-1-2-3-4.compute.amazonaws.com",
        "用 ssh root@server.example.com 登录",
        "user@web.example.com:~/app$ make",
        "docker pull user@registry.example.com/app:1.2",
        "npm i react@18.2.1-beta.next; uses: a/b@v4.1.main",
        "y = x@w.mean(axis=0)",
        "loss = (pred@target.conj()).sum() + q@k.mT",
        "attn = q@k.T @ v.map(f)",
        "What is 900-250-1000 equal to?",
        "900-250-1000 = -350",
        "-350 = 900-250-1000",
        "计算 900-250-1000 的值",
        "900-250-1000等于多少？",
        "print(900-250-1000)",
        "13800138000 * 2 和 n = 13800138001",
        "Simplify: 123-45-6789",
        "What is the value of 123-45-6789?",
        "const x = 123-45-6789;",
        "4111111111111111 + 1 = ?",
        "order number 4111111111111111, part no. 415-220-1234",
        "Intel 8086 80286 80386, hotel 1234567",
        "¥13812345678, 13812345678%, OpenSSL 1.1.1.25, pip install pkg==1.2.30.4, Chrome/96.0.45.110, upgraded from 4.19.0.24",
        "token = self.tokenizer2.encode_plus(text); key: token = cfg.model_v2.special_tokens.eos_token",
        "https://user:password@example.com/x and postgres://app:${PASSWORD}@db.example.com/x",
    ],
)
def test_case_10_what_is_no_personal_data_is_not_masked(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("email", "bob@x.org: he answers", "bob@x.org"),
        ("email", "bob@x.org:hunter2", "bob@x.org"),
        ("email", "git commit --author='Bob <bob@x.org>'", "bob@x.org"),
        ("email", "docker login -u bob@x.org", "bob@x.org"),
        ("email", "bob@example.org(Bob)", "bob@example.org"),
        ("email", "bob@163.com", "bob@163.com"),
        ("email", r'"one\nbob@x.org"', "bob@x.org"),
        ("email", "k@example.photography", "k@example.photography"),
        ("phone", "Call 212-555-1234 - ask Bob", "212-555-1234"),
        ("phone", "- 212-555-1234", "212-555-1234"),
        ("phone", "name = Bob, phone = 212-555-1234", "212-555-1234"),
        ("phone", "13812345678加我微信", "13812345678"),
        ("phone", "想了解13812345678", "13812345678"),
        ("national_id", "Her social security number is 123-45-6789.", "123-45-6789"),
        ("card", "card=4111111111111111", "4111111111111111"),
        ("secret", "https://bob:hunter2@example.com/feed", "hunter2"),
    ],
)
def test_case_10_what_is_personal_data_still_is(kind: str, text: str, value: str) -> None:
    assert [(each.kind, text[each.start : each.end]) for each in find(text)] == [(kind, value)]


def masked(**texts: str) -> dict[str, str]:
    edits = mask_texts(texts, PiiSettings())
    return {name: apply(text, edits.get(name, ())) for name, text in texts.items()}


def test_a_value_is_masked_in_every_text_of_its_row() -> None:
    made = masked(
        input="My phone number is 020 7946 0958.",
        output="I ring 020 7946 0958, not 020 7946 09580; fax:x020 7946 0958.",
    )
    assert made == {
        "input": "My phone number is [PHONE].",
        "output": "I ring [PHONE], not 020 7946 09580; fax:x[PHONE].",
    }


@pytest.mark.parametrize(
    ("text", "now"),
    [
        ('{"mail": "li@example.org", "n": 1}', '{"mail": "[EMAIL]", "n": 1}'),
        ('{"tel": 13812345678}', '{"tel": "[PHONE]"}'),
        ('["\\u003cli@example.org", "a\\nli@example.org"]', '["<[EMAIL]", "a\\n[EMAIL]"]'),
        ('["-----BEGIN PRIVATE KEY-----\\nMIIE", 2]', '["[SECRET]", 2]'),
    ],
)
def test_json_is_json_after_masking(text: str, now: str) -> None:
    made = masked(output=text)["output"]
    assert json.loads(made) is not None
    assert made == now


@pytest.mark.parametrize(
    "text",
    [
        "该国人口为13812345678人，居世界第九。",
        "去年的产值是 13912345678 元。",
        "共有13812345678个分子。",
        "两地相距 13812345678 米。",
        "数字13812345678是质数吗？",
        "13812345678能被3整除吗？",
        "质数：13812345679",
        "Its revenue was 212-555-0147 dollars",
        "h = W@x.to(device)",
        "mask = A@b.ge(0)",
    ],
)
def test_counts_measures_and_matrix_products_are_not_masked(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Call me at 555-123-4567.", "Call me at [PHONE]."),
        ("You can reach us on 555 123 4567", "You can reach us on [PHONE]"),
        ("客服热线：400 820 8820", "客服热线：[PHONE]"),
        ("SSN: 123456789", "SSN: [NATIONAL_ID]"),
        ("电话13812345678人工接听", "电话[PHONE]人工接听"),
        ("请联系13812345678个人工作室", "请联系[PHONE]个人工作室"),
        ("write to bob@mail.to (Bob)", "write to [EMAIL] (Bob)"),
        ("邮箱zhang@qq.com(工作)", "邮箱[EMAIL](工作)"),
    ],
)
def test_numbers_labelled_as_personal_are_masked(text: str, masked: str) -> None:
    assert mask(text, find(text)) == masked


def test_personal_data_that_the_question_has_is_not_the_answers_own() -> None:
    question = "Write to li@example.org. 张三的手机号是 13812345678 吗？"
    assert kinds_in("是的，13812345678。 Or li@example.org.", question) == []
    assert kinds_in("是的，手机号是 13912345678；写信给 wang@firma.cn。", question) == ["email", "phone"]
    assert kinds_in("手机号是 13912345678。", question, "13912345678") == []
    assert kinds_in("No number here, 没有。", question) == []
