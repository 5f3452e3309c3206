"""Context that makes a value impersonal: a calculation, a network command, an expression of a program. Pure.

Each check reads a bounded part of the text, so that its cost does not grow with the text.
"""

from __future__ import annotations

import re

from tasks.pii.domains import COMMON, TOP_LEVEL

BEFORE, AFTER = 48, 32
"""Characters before and after a value that are read."""
LINE = 160
"""Characters of the line before an address that are searched for a command."""

_PERSONAL = re.compile(
    r"phone|\btel\b|telefon|mobile|\bcell\b|\bfax|contact|\bcall|\bdial|\bring\b|\btext(?:ed|ing)? |whatsapp|wechat|\bssn\b"
    r"|social.?security|\btax|\bcard|\bvisa|\bamex|\baccount|acct|passport|national.?insurance|cc_?num|iban|电话|手机|拨打|致电|联系|传真|微信"
    r"|卡号|银行卡|信用卡|账[户号]|证件|身份证",
    re.IGNORECASE,
)
"""Words that mark a number as personal, whatever else is around it."""
_OPERATOR_BEFORE = re.compile(
    r"(?:[0-9a-z)\]][ \t]*[+*×÷−]|[*×÷−/+=][ \t]*\(|(?<![A-Za-z])[a-z]\(|\(\("
    r"|\b(?:abs|eval|float|int|max|min|print|range|round|sqrt|str|sum|Number|parseInt|BigInt)\(|[0-9][ \t]*=|[¥￥$€£])[ \t]*$"
)
_ASSIGNED = re.compile(r"(?:^|[\s;(,])[A-Za-z_][A-Za-z0-9_.]{0,40}[ \t]*(?:[-+*/]?=|:=|==|<=|>=|!=|<|>)[ \t]*$")
_QUESTION = re.compile(
    r"(?:\bwhat(?:'s|’s| is| does| do| are)|\bhow much is|\bwork out|\bcalculate|\bcomput(?:e|ing)|\bevaluate"
    r"|\bsolve|\bsimplify|\bsubtract"
    r"|\b(?:sum|difference|product|quotient|result|value|expression)(?: of)?"
    r"|计算|(?<![请要需])求出?|算出?|等于|(?<![了理讲见])解)(?: the)?(?: (?:sum|result|value))?(?: of)?"
    r"[ \t]*[:：]?[ \t]*[(（]?$",
    re.IGNORECASE,
)
_OPERATOR_AFTER = re.compile(
    r"[)）]?[ \t]*(?:=[ \t]*[-−]?[0-9?？xX]|[*×÷^%][ \t]*[-−(]?[0-9a-z]|/[ \t]*[0-9]{1,4}(?![0-9\-.])"
    r"|[+][ \t]*(?:[0-9]{1,8}|1[3-9][0-9]{9})(?![0-9\-]| [0-9])|[<>≤≥]=?[ \t]*[-−]?[0-9]"
    r"|[-+−*/×÷][ \t]*[b-hj-z]\b|[-−][ \t]+[0-9]{1,6}(?![0-9\-])"
    r"|(?:is )?equal(?:s| to)|equals?\b|plus\b|minus\b|times\b|divided by|mod\b"
    r"|(?:is )?(?:negative|positive|even|odd|prime|divisible|greater than|less than)\b"
    r"|等于|加(?:上|[ \t]?[0-9])|减(?:去|[ \t]?[0-9])|乘(?:以|[ \t]?[0-9])|除(?:以|[ \t]?[0-9])"
    r"|的?(?:平方|立方|倒数|因数|约数|相反数|绝对值|位数|结果)|的(?:值|差|和|积|商)|是多少"
    r"|(?:是否|是|不是)?(?:一个)?(?:质数|素数|奇数|偶数|合数|整数|正数|负数|完全平方数)|(?:能否|能|可以)被)",
    re.IGNORECASE,
)
_UNIT_AFTER = re.compile(
    r"[ \t]?(?:多|余)?[万亿]?(?:[%％‰]|人民币|[美欧日港]?元|英镑|个(?!人)|人(?![工员])|米|公里|千米|厘米|毫米"
    r"|千克|公斤|克|吨|字节|比特|毫秒|秒|瓦|光年|平方|立方|次(?!日)|[种颗粒]|(?:dollars|euros|people|inhabitants"
    r"|met(?:er|re)s|kilomet(?:er|re)s|miles|bytes|bits|seconds|years|times|units|items|tons|tonnes)\b)",
    re.IGNORECASE,
)
"""Units: the number is a quantity."""
_KIND_BEFORE = re.compile(r"(?:数字|整数|自然数|质数|素数|奇数|偶数|合数|因数|倍数)[ \t]*[:：是为]?[ \t]*$")
_LABEL = re.compile(
    r"(?:\b(?:order|invoice|part|model|serial|sku|isbn|issn|ref(?:erence)?|case|ticket|tracking|item|catalog(?:ue)?|patent|batch"
    r"|lot|product|version|build|release|pages?|commit|seed|timestamp)"
    r"|订单|发票|编|型|单|序列|货|批|流水|运单|快递|版本)"
    r"(?:[ _-]?(?:no|nr|num(?:ber)?|id|code))?(?:号码?)?\.?(?: is| was|为|是)?[ \t]*[:：#=]?[ \t]*#?$",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"(?:^|[\s$#`'\"“(（|;&>])(?:ssh|scp|sftp|rsync|mosh|sshfs|ssh-copy-id|ssh-keyscan)\s[^\n]*$")
_FETCH = re.compile(r"(?:^|[\s$#`'\"“(（|;&>])(?:git|hg|svn|docker|podman|helm|mount|pip|npm|go)\s[^\n]*$")
_USER_INFO = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,15}://[^\s/@]{0,64}$")
_METHODS = frozenset("at eq ge gt id is it le lt mm mv ne to".split())  # noqa: SIM905
"""Country domains that are also names of matrix methods."""
_PATH = re.compile(r":(?:[~/.]|[^\s:/~]{0,64}[/~])")


def is_number_of_a_person(text: str, start: int, end: int) -> bool:
    """Is the number neither part of a calculation nor that of an order, a part or a version?"""
    before = text[max(start - BEFORE, 0) : start]
    if before.rfind("\n") >= 0:
        before = before[before.rfind("\n") + 1 :]
    if _PERSONAL.search(before):
        return True
    return not (is_calculated(before, text[end : end + AFTER]) or _LABEL.search(before))


def is_calculated(before: str, after: str) -> bool:
    return bool(
        _OPERATOR_BEFORE.search(before)
        or _ASSIGNED.search(before)
        or _QUESTION.search(before)
        or _OPERATOR_AFTER.match(after)
        or _KIND_BEFORE.search(before)
        or _UNIT_AFTER.match(after)
    )


def is_mailbox(text: str, start: int, end: int) -> bool:
    """Is user@host an e-mail address, rather than the target of a command or a matrix product?"""
    local, _, domain = text[start:end].rpartition("@")
    labels = domain.split(".")
    top = labels[-1].lower()
    if top not in TOP_LEVEL or (labels[-1] not in (top, top.upper(), top.capitalize())):
        return False
    if len(labels) > 2 and labels[1].isdigit():  # react@18.2.1-beta.next
        return False
    after = text[end : end + LINE]
    if top not in COMMON and (after[:1] in ("(", "[") or (len(local) == 1 and len(labels[0]) == 1)):
        return False
    if top in _METHODS and len(labels) == 2 and after[:1] in ("(", "["):  # W@x.to(device)
        return False
    return not _is_transport(local, text[max(start - LINE, 0) : start], after)


def _is_transport(local: str, before: str, after: str) -> bool:
    line = before[before.rfind("\n") + 1 :]
    if local in ("git", "hg", "svn") and (after[:1] == ":" or "://" in line):
        return True
    if _USER_INFO.search(line) or _COMMAND.search(line) or _PATH.match(after):
        return True
    return after[:1] in (":", "/") and _FETCH.search(line) is not None
