"""What a row speaks of, as far as cleaning must know: markup, tokens of a tokenizer, code, and texts whose layout counts. Pure.

In doubt a row speaks of it: then something stays that could have gone, and nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_MARKUP = re.compile(
    r"html|xml|\bcss\b|javascript|\bjsx?\b|\btsx\b|\bvue\b|\breact\b|markdown|wiki(?:text| markup)|\bmarkup\b|bbcode|\btags?\b"
    r"|\btagged\b|\bescap(?:e|ed|ing)\b|web ?page|web ?site|\bbrowser|hyperlink|\brender|\bparser?\b|\bparsing\b|\bregex"
    r"|<!--|<!doctype|\bbold(?:face)?\b|\bitalic|\bunderlin|\bwrap(?:ped|ping|s)?\b|\bsurround(?:ed|ing)?\b"
    r"|\benclos(?:e|ed|ing)\b|\bdelimit|\bhighlight|\bformat(?:ted|ting)?\b|\bmark (?:the|all|each|every|any)\b"
    r"|[\"'`“‘「]</?[a-z][^<>]{0,40}>[\"'`”’」]"
    r"|标签|网页|网站|标记|标出|标注|转义|加粗|粗体|斜体|下划线|超链接|浏览器|渲染|解析|正则|包裹|括起|格式|富文本",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"\btokens?\b|tokeni[sz]|\bspecial symbol|\bend[ -]of[ -](?:text|sequence|sentence|turn|message|document)\b|\bvocab"
    r"|chat ?template|prompt ?template|\btemplates?\b|jinja|\{\{.{0,200}\}\}|\{%|chatml|\bgpt-?\d|\bllama|\bqwen|\bbert\b"
    r"|sentencepiece|\bbpe\b|language model|\bllms?\b|\bstop (?:word|string|sequence)|\b[eb]os\b(?![>\]|])"
    r"|<\|(?:im_start|start_header|system|user|assistant)|\[INST\]|[\"'`“‘「](?:<\|?/?[a-z_]+\|?>|\[EOS\])[\"'`”’」]"
    r"|模板|词元|令牌|分词|词表|结束符|终止符|停止符|分隔符|特殊符号|特殊标记|语言模型",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"```|\bcode\b|\bcoding\b|\bprogram(?:s|ming|mer)?\b|\bfunctions?\b|\bpython\b|\bjava\b|\brust\b|\bgenerics?\b"
    r"|\btypescript\b|\bc\+\+|\bc#|\bgolang\b|\bsql\b|\bbash\b|\bshell\b|\bcompil(?:e|er)|代码|编程|程序|函数|脚本"
    r"|^[ \t]*+(?:def |class \w+[(:]|import \w|from [\w.]+ import |#include|#!|public |private |protected |static |func |fn "
    r"|let |const |var |package |using |namespace |return\b|if ?\(|for ?\(|while ?\(|elif |else:|try:|except\b|@\w+[ \t]*+$"
    r"|>>> |\$ |SELECT )|[;{}][ \t]*+$|\):[ \t]*+$|=>|::|[!=]=|\+=|&&|\|\||\(\);",
    re.IGNORECASE | re.MULTILINE,
)
_UNFINISHED = re.compile(r"[\w,，、]\Z")
_GOES_ON = re.compile(r"\s+[a-z\u3400-\u9fff]\S*(?:\s+\S+){3}|\s+[\u3400-\u9fff]{4}")

_CHANGED_LINE = re.compile(r"[+-]\S")
_LABEL = re.compile(r" ?[\w\-/&]{1,64}(?: [\w\-/&]{1,64}){0,4}\s*+")


def speaks_of_markup(texts: Iterable[str]) -> bool:
    return any(_MARKUP.search(text) for text in texts)


def speaks_of_tokens(texts: Iterable[str]) -> bool:
    return any(_TOKENS.search(text) for text in texts)


def is_code(texts: Iterable[str]) -> bool:
    return any(_CODE.search(text) for text in texts)


def is_laid_out(row: Mapping[str, str], texts: Iterable[str]) -> bool:
    """Does white space at the ends of the row's texts say something? In raw text, code, verse, and where the answer goes on."""
    prompt = row["input"] or row["instruction"]
    if not prompt and not row["system"] and row["history"] == "[]":
        return True
    answers = [answer for answer in (row["output"], row["rejected"]) if answer[:1].isspace()]
    if any(_goes_on(prompt, answer) or _is_indented(answer) for answer in answers):
        return True
    return is_code([row["family"], *texts])


def are_labels(row: Mapping[str, str]) -> bool:
    """Are the row's answers a label or a few words, whatever they are about? White space around those says nothing."""
    if (row["input"] or row["instruction"])[-1:].isspace():
        return False
    return all(_LABEL.fullmatch(answer) for answer in (row["output"], row["rejected"]) if answer)


def _goes_on(prompt: str, answer: str) -> bool:
    """Is the answer the rest of the prompt's own sentence?"""
    return bool(_UNFINISHED.search(prompt) and _GOES_ON.match(answer))


def _is_indented(text: str) -> bool:
    """Are the first line and another one indented, or is it a change of lines (`-old`, `+new`)?"""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or lines[0][0] not in " \t":
        return False
    return sum(line[0] in " \t" for line in lines) > 1 or any(_CHANGED_LINE.match(line) for line in lines[1:])
