"""How an expression of a chat template depends on contents: the data-flow analysis of template_analysis.py. Pure.

An expression is accepted if it depends only on whether a content is empty, on its surrounding white space, and on whether it holds
one of a few constant texts; anything else raises UntrackedError, which template_analysis.py catches.
"""

from __future__ import annotations

from typing import Any, Literal

from jinja2 import nodes

Kind = Literal["constant", "messages", "content", "mixed", "namespace"]
"""Determined by the shape; messages, or one of them; a content, trimmed or split at a constant text; a text with contents; a
namespace."""

_KEEPS_KIND = {"trim", "string", "safe", "default", "d"}
_OF_MESSAGES: dict[str, Kind] = {
    "length": "constant", "count": "constant", "first": "messages", "last": "messages", "list": "messages",
    "reverse": "messages",
}  # fmt: skip
_TESTS = {"string", "defined", "undefined", "none", "mapping", "iterable", "sequence", "number", "boolean"}
_STRIPS = {"strip", "lstrip", "rstrip"}
_WITH_CONSTANT = {"split", "startswith", "endswith", "replace"}
_FUNCTIONS = {"raise_exception", "strftime_now", "range"}


class UntrackedError(Exception):
    """The template uses contents in a way that the analysis does not track."""


class Expressions:
    """The expressions of one template, and the kinds of its names."""

    def __init__(self, tree: nodes.Template) -> None:
        self.tree = tree
        self.kinds: dict[str, Kind] = {"messages": "messages"}
        self.macros = {macro.name for macro in tree.find_all(nodes.Macro)}
        self.compared: set[str] = set()
        self.assigned: dict[str, list[nodes.Node]] = {}
        for assign in tree.find_all(nodes.Assign):
            if isinstance(assign.target, nodes.Name):
                self.assigned.setdefault(assign.target.name, []).append(assign.node)
        bound = [name for loop in tree.find_all(nodes.For) for name in loop.target.find_all(nodes.Name)]
        bound += [loop.target for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)]
        bound += [name for macro in tree.find_all(nodes.Macro) for name in macro.args]
        self.varying = {name.name for name in bound}

    def add_kind(self, name: str, kind: Kind) -> None:
        self.kinds[name] = merge(self.kinds.get(name, "constant"), kind)

    def kind(self, node: nodes.Node) -> Kind:
        match node:
            case nodes.Const() | nodes.TemplateData():
                return "constant"
            case nodes.Name():
                return self.kinds.get(node.name, "constant")
            case nodes.Getattr() | nodes.Getitem():
                return self._access(node)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Call():
                return self._call(node)
            case nodes.Compare():
                return self._comparison(node)
            case nodes.Test():
                kind = self.kind(node.node)
                self.constants([*node.args, *node.kwargs])
                require(kind == "constant" or node.name in _TESTS)
                return "constant"
            case nodes.Not():
                self.kind(node.node)
                return "constant"
            case nodes.And() | nodes.Or():
                return merge(self.kind(node.left), self.kind(node.right))
            case nodes.CondExpr():
                self.kind(node.test)
                other: Kind = self.kind(node.expr2) if node.expr2 else "constant"
                return merge(self.kind(node.expr1), other)
            case nodes.Add():
                return self._concatenation([node.left, node.right])
            case nodes.Concat():
                return self._concatenation(node.nodes)
        self.constants(list(node.iter_child_nodes()))
        return "constant"

    def _concatenation(self, parts: list[Any]) -> Kind:
        # every part is checked, whatever the first is
        have_contents = [has_contents(self.kind(part)) for part in parts]
        return "mixed" if any(have_contents) else "constant"

    def constants(self, parts: list[Any]) -> None:
        for part in parts:
            require(self.kind(part) == "constant")

    def _access(self, node: nodes.Getattr | nodes.Getitem) -> Kind:
        whole = node.node
        key = node.attr if isinstance(node, nodes.Getattr) else _literal(node.arg)
        if isinstance(whole, nodes.Name) and whole.name == "loop" and key in ("previtem", "nextitem"):
            return "messages"
        if isinstance(node, nodes.Getitem) and isinstance(key, int) and self._is_split(whole):
            return self._call(whole)
        kind = self.kind(whole)
        if kind == "namespace":
            require(isinstance(whole, nodes.Name) and isinstance(key, str))
            assert isinstance(whole, nodes.Name)
            return self.kinds.get(f"{whole.name}.{key}", "constant")
        if isinstance(node, nodes.Getitem):
            self.constants([node.arg])
        if kind == "constant":
            return kind
        require(kind == "messages")
        if isinstance(key, str):
            return "content" if key == "content" else "constant"
        assert isinstance(node, nodes.Getitem)
        require(isinstance(node.arg, nodes.Slice) or _is_number(node.arg))
        return "messages"

    def _filter(self, node: nodes.Filter) -> Kind:
        require(node.node is not None)
        assert node.node is not None
        if node.name in ("first", "last") and self._is_split(node.node):
            return self._call(node.node)
        kind = self.kind(node.node)
        self.constants([*node.args, *node.kwargs])
        require(not (node.dyn_args or node.dyn_kwargs) and kind != "namespace")
        if kind == "constant":
            return kind
        if kind == "messages":
            if node.name in ("selectattr", "rejectattr"):
                require(bool(node.args) and getattr(node.args[0], "value", None) == "role")
                return kind
            require(node.name in _OF_MESSAGES)
            return _OF_MESSAGES[node.name]
        require(node.name in _KEEPS_KIND and not (node.name == "trim" and (node.args or node.kwargs)))
        return kind

    def _is_split(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "split"

    def _call(self, node: Any) -> Kind:
        self.constants([*node.args, *(pair.value for pair in node.kwargs)])
        require(not (node.dyn_args or node.dyn_kwargs))
        if isinstance(node.node, nodes.Name):
            name = node.node.name
            require(name in self.macros or name in _FUNCTIONS)
            return "mixed" if name in self.macros else "constant"
        require(isinstance(node.node, nodes.Getattr))
        kind, method = self.kind(node.node.node), node.node.attr
        if kind == "constant":
            return kind
        texts = [self._texts(argument) for argument in node.args[:2]]
        if kind == "messages":
            require(method == "get" and bool(texts) and len(texts[0]) == 1)
            return "content" if texts[0] == ["content"] else "constant"
        if method in _STRIPS:
            require(not any(text.strip() for argument_texts in texts for text in argument_texts))
            return kind
        require(kind == "content" and method in _WITH_CONSTANT and bool(texts) and bool(texts[0]) and all(texts[0]))
        self.compared.update(texts[0])
        return "constant" if method in ("startswith", "endswith") else kind

    def _comparison(self, node: nodes.Compare) -> Kind:
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        kinds = [self.kind(operand) for operand in operands]
        if set(kinds) == {"constant"}:
            return "constant"
        require(len(operands) == 2 and kinds.count("constant") == 1)
        operator, constant = node.ops[0].op, operands[kinds.index("constant")]
        if "messages" in kinds:  # is there such a key?
            require(operator in ("in", "notin") and kinds[1] == "messages")
            return "constant"
        require("content" in kinds and operator in ("in", "notin", "eq", "ne"))
        # a content may be contained in a text without holding it
        require(operator in ("eq", "ne") or kinds[1] == "content" or isinstance(constant, (nodes.List, nodes.Tuple)))
        self.compared.update(self._texts(constant))
        return "constant"

    def _texts(self, node: nodes.Node) -> list[str]:
        """The possible values of a constant: its literal, or all literals that its name is set to."""
        if isinstance(node, nodes.Const):
            return [node.value] if isinstance(node.value, str) else []
        if isinstance(node, (nodes.List, nodes.Tuple)):
            return [text for item in node.items for text in self._texts(item)]
        require(isinstance(node, nodes.Name) and node.name in self.assigned and node.name not in self.varying)
        assert isinstance(node, nodes.Name)
        values = self.assigned[node.name]
        require(all(isinstance(value, nodes.Const) for value in values))
        return [text for value in values for text in self._texts(value)]

    def is_content_a_string(self, test: nodes.Node) -> bool:
        """Is it `message.content is string`? Contents always are, so the other branch is not tracked."""
        if not isinstance(test, nodes.Test) or test.name != "string":
            return False
        accessed = test.node
        if not isinstance(accessed, (nodes.Getattr, nodes.Getitem)) or self.kind(accessed.node) != "messages":
            return False
        return self.kind(accessed) == "content"


def require(condition: bool) -> None:
    if not condition:
        raise UntrackedError


def has_contents(kind: Kind) -> bool:
    """Does this text hold contents? Messages printed as dictionaries are not tracked."""
    require(kind not in ("messages", "namespace"))
    return kind != "constant"


def merge(one: Kind, other: Kind) -> Kind:
    if one == other or other == "constant":
        return one
    if one == "constant":
        return other
    require({one, other} == {"content", "mixed"})
    return "mixed"


def name_of(node: nodes.Node) -> str:
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    require(isinstance(node, nodes.Name))
    assert isinstance(node, nodes.Name)
    return node.name


def _is_number(node: nodes.Node) -> bool:
    """Is it made of numbers and the loop's index, so that it is not a key of a message?"""
    if isinstance(node, nodes.Const):
        return isinstance(node.value, int)
    if isinstance(node, nodes.Getattr):
        return isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr.startswith("index")
    if isinstance(node, (nodes.Add, nodes.Sub)):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, nodes.Neg) and _is_number(node.node)


def _literal(node: nodes.Expr) -> Any:
    """The value of `'key'`, `0`, `-1`; None for what is not a constant."""
    is_written = isinstance(node, nodes.Const) or (isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const))
    return node.as_const() if is_written else None
