"""The subject of a row, where it affects cleaning: markup, tokenizer tokens, white space, invisible characters, code. Pure.

In doubt the answer is yes: then noise may remain, but nothing is lost. Words are looked up in sets, and symbols by plain search,
since this runs for every row with noise: one pattern of all of them takes twenty times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

_WORD = re.compile(r"[a-z][a-z0-9+#]*")


def _parts(text: str) -> tuple[str, ...]:
    """Words and parts of words from a list separated by bars."""
    return tuple(part.strip() for part in text.strip("\n ").split("|"))


def _words(text: str) -> frozenset[str]:
    return frozenset(_parts(text))


_MARKUP_WORDS = _words(
    """
    css | js | jsx | tsx | vue | react | markup | wiki | tag | tags | tagged | escape | escaped | escaping | bold |
    boldface | italic | italics | italicize | italicise | parse | parser | parsing | regex | wrap | wraps | wrapped |
    wrapping | surround | surrounded | surrounding | enclose | enclosed | enclosing | format | formats | formatted |
    formatting | emphasize | emphasise | render | renders | rendered | rendering | browser | browsers | webpage | website | font |
    fonts | newsletter | homepage
    """
)
_MARKUP_PARTS = _parts(
    """
    html | xml | ssml | javascript | markdown | wikitext | bbcode | hyperlink | underlin | highlight |
    delimit | web page | web site | landing page | plain text | angle bracket | <!-- | <!doctype | mark the | mark all |
    mark each | mark every | mark any
    """
)
_MARKUP_CHINESE = _parts(
    """
    标签 | 网页 | 网站 | 标记 | 标出 | 标注 | 转义 | 加粗 | 粗体 | 斜体 | 下划线 | 超链接 | 浏览器 | 渲染 | 解析 | 正则 |
    包裹 | 包围 | 括起 | 尖括号 | 格式 | 富文本 | 纯文本 | 字体 | 页面 | 主页 | 划出 | 划线 | 画线 | 标红 | 居中
    """
)
_QUOTED_TAG = re.compile(r"[\"'`“‘「]</?[a-z][^<>]{0,40}>[\"'`”’」]")
_ENTITY = r"&(?:[a-z]{2,8}[0-9]{0,2}|#x?[0-9a-f]{2,6});"
_ENTITY_AS_SUBJECT = re.compile(
    rf"[\"'`“‘「]{_ENTITY}[\"'`”’」]|(?<!\w){_ENTITY} (?:means?|stands?|represents?|displays?|shows?|does)\b"
    rf"|\b(?:what (?:is|does|are)|character|symbol|sequence|entity|entities|type|write) {_ENTITY}(?=[ ,.?!]|$)"
    rf"|(?:什么是|符号|字符|实体|写成|输入|使用|代表) ?{_ENTITY}(?=[ ，。？！,.?!就即来]|$)"
    rf"|{_ENTITY} ?(?:是什么|表示|代表|的(?:意思|含义|作用)|什么意思|有什么)"
)
"""An entity that the text is about: `What does &nbsp; mean?`."""

_TOKEN_WORDS = _words("token | tokens | template | templates | bert | bpe | llm | llms")
_TOKEN_PARTS = _parts("vocab | llama | qwen | gpt- | gpt2 | gpt3 | gpt4 | language model")
_TOKEN_CHINESE = _parts("模板 | 令牌 | 词表 | 分隔符 | 语言模型")
_TOKENIZER_PARTS = _parts(
    """
    tokeni | sentencepiece | chatml | jinja | {% | {{ | special token | special symbol | stop word | stop token |
    stop string | stop sequence | end token | [inst] | end of text | end-of-text | end of sequence | end-of-sequence |
    end of sentence | end-of-sentence | end of turn | end-of-turn | chat template | prompt template | chattemplate |
    prompttemplate
    """
)
_TOKENIZER_CHINESE = _parts(
    "词元 | 分词 | 结束符 | 终止符 | 停止符 | 特殊符号 | 特殊标记 | 对话模板 | 聊天模板 | 提示模板"
)
_ROLES = ("<|im_start", "<|start_header", "<|system", "<|user", "<|assistant")
_EOS = re.compile(r"(?<![<\[|])\b[eb]os\b(?![>\]|])|[\"'`“‘「](?:<\|?/?[a-z_]+\|?>|\[eos\])[\"'`”’」]")

_LAYOUT_WORDS = _words("indent | indents | indented | indenting | indentation | whitespace | whitespaces")
_LAYOUT_PARTS = _parts("white space | leading spaces | trailing space | two spaces | four spaces | 2 spaces | 4 spaces")
_LAYOUT_CHINESE = _parts("缩进 | 空格 | 空白符 | 空白字符 | 制表符")
_CHARACTER_WORDS = _words("crlf | bom | ansi | unicode | zwsp | zwj | zwnj | vt100")
_CHARACTER_PARTS = _parts(
    """
    zero-width | zero width | invisible char | unprintable | non-printable | nonprintable | non-printing | control char |
    control code | carriage return | form feed | vertical tab | line separator | byte order mark | null byte | null character |
    escape code | escape seq | u+200 | u+202 | u+206 | u+feff | \\x1b | \\033
    """
)
_CHARACTER_CHINESE = _parts(
    "零宽 | 不可见字符 | 控制字符 | 回车符 | 换页符 | 字节顺序标记 | 空字符 | 转义序列 | 转义码"
)

_CODE_WORDS = _words(
    """
    code | coding | program | programs | programming | programmer | function | functions | python | java | rust |
    generic | generics | typescript | c++ | c# | golang | sql | bash | shell | compile | compiler | compiles | compiled
    """
)
_CODE_PARTS = ("```", "=>", "::", "==", "!=", "+=", "&&", "||", "();")
_CODE_CHINESE = _parts("代码 | 编程 | 程序 | 函数 | 脚本")
_FIRST_OF_A_LINE = (
    *("def ", "#include", "#!", "public ", "private ", "protected ", "static ", "func ", "fn ", "let ", "const "),
    *("var ", "package ", "using ", "namespace ", "return ", "return;", "if (", "if(", "for (", "for(", "while ("),
    *("while(", "elif ", "else:", "try:", "except", "import ", "from ", "class ", ">>> ", "$ ", "select ", "@"),
)  # fmt: skip
_LAST_OF_A_LINE = ("{", "}", "):")
_STATEMENT = re.compile(r"[=(\[{]|\+\+|--|^\w+;$")
"""In a line that ends in `;`: lines of an English list, and entities, end in one as well."""
_SURELY_CODE = re.compile(r"import \w|from [\w.]+ import |class \w+[(:]|@\w+\s*$|return\b")
_AMBIGUOUS_START = ("import ", "from ", "class ", "@", "return ")


class Subject:
    """The subject of some texts together."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._text = "\n".join(texts).lower()

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(_WORD.findall(self._text))

    def _names(self, words: frozenset[str], parts: tuple[str, ...], chinese: tuple[str, ...]) -> bool:
        if any(part in self._text for part in parts) or not words.isdisjoint(self._words):
            return True
        return not self._text.isascii() and any(part in self._text for part in chinese)

    @cached_property
    def is_markup(self) -> bool:
        if self._names(_MARKUP_WORDS, _MARKUP_PARTS, _MARKUP_CHINESE):
            return True
        if "<" in self._text and _QUOTED_TAG.search(self._text):
            return True
        return "&" in self._text and _ENTITY_AS_SUBJECT.search(self._text) is not None

    @cached_property
    def is_tokens(self) -> bool:
        return self.is_tokenizer or self._names(_TOKEN_WORDS, _TOKEN_PARTS, _TOKEN_CHINESE)

    @cached_property
    def is_tokenizer(self) -> bool:
        """Is it surely about tokens of a tokenizer? The words token, template and llama are ambiguous."""
        if self._names(frozenset(), (*_TOKENIZER_PARTS, *_ROLES), _TOKENIZER_CHINESE):
            return True
        return _EOS.search(self._text) is not None if ("os" in self._text or "<" in self._text) else False

    @cached_property
    def is_layout(self) -> bool:
        """Is it about white space, such as indentation?"""
        return self._names(_LAYOUT_WORDS, _LAYOUT_PARTS, _LAYOUT_CHINESE)

    @cached_property
    def is_characters(self) -> bool:
        """Is it about invisible characters?"""
        return self._names(_CHARACTER_WORDS, _CHARACTER_PARTS, _CHARACTER_CHINESE)

    @cached_property
    def is_code(self) -> bool:
        return self._names(_CODE_WORDS, _CODE_PARTS, _CODE_CHINESE) or any(
            map(_is_line_of_code, self._text.split("\n"))
        )


def _is_line_of_code(line: str) -> bool:
    line = line.strip()
    if line.endswith(_LAST_OF_A_LINE) or (line.endswith(";") and _STATEMENT.search(line)):
        return True
    if not line.startswith(_FIRST_OF_A_LINE):
        return False
    return not line.startswith(_AMBIGUOUS_START) or _SURELY_CODE.match(line) is not None
