"""What an expression of a chat template may hold of contents: every value followed from `messages` on. Pure.

Only what is known to depend on no more of a content than whether it is empty, what white space it ends in, and whether it holds
one of a few constant texts is let through; all else raises NotFollowedError, which never leaves template_analysis.py.
"""

from __future__ import annotations

from typing import Any, Literal

from jinja2 import nodes

Kind = Literal["constant", "messages", "content", "mixed", "namespace"]
"""Known from the shape; messages, or one of them; a content, trimmed or cut at a constant text; a text around contents; `ns`."""

_KEEPING = {"trim", "string", "safe", "default", "d"}
_OF_MESSAGES: dict[str, Kind] = {
    "length": "constant", "count": "constant", "first": "messages", "last": "messages", "list": "messages",
    "reverse": "messages",
}  # fmt: skip
_TESTS = {"string", "defined", "undefined", "none", "mapping", "iterable", "sequence", "number", "boolean"}
_STRIPS = {"strip", "lstrip", "rstrip"}
_SEEKS = {"split", "startswith", "endswith", "replace"}
_FUNCTIONS = {"raise_exception", "strftime_now", "range"}


class NotFollowedError(Exception):
    """The template does something with contents that we do not follow."""


class Expressions:
    """The expressions of one template, and what its names are known to hold."""

    def __init__(self, tree: nodes.Template) -> None:
        self.tree = tree
        self.kinds: dict[str, Kind] = {"messages": "messages"}
        self.macros = {macro.name for macro in tree.find_all(nodes.Macro)}
        self.marks: set[str] = set()
        self.assigned: dict[str, list[nodes.Node]] = {}
        for assign in tree.find_all(nodes.Assign):
            if isinstance(assign.target, nodes.Name):
                self.assigned.setdefault(assign.target.name, []).append(assign.node)
        bound = [name for loop in tree.find_all(nodes.For) for name in loop.target.find_all(nodes.Name)]
        bound += [loop.target for loop in tree.find_all(nodes.For) if isinstance(loop.target, nodes.Name)]
        bound += [name for macro in tree.find_all(nodes.Macro) for name in macro.args]
        self.varying = {name.name for name in bound}

    def hold(self, name: str, kind: Kind) -> None:
        self.kinds[name] = joined(self.kinds.get(name, "constant"), kind)

    def kind(self, node: nodes.Node) -> Kind:
        match node:
            case nodes.Const() | nodes.TemplateData():
                return "constant"
            case nodes.Name():
                return self.kinds.get(node.name, "constant")
            case nodes.Getattr() | nodes.Getitem():
                return self._part(node)
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Call():
                return self._called(node)
            case nodes.Compare():
                return self._compared(node)
            case nodes.Test():
                kind = self.kind(node.node)
                self.constants([*node.args, *node.kwargs])
                only(kind == "constant" or node.name in _TESTS)
                return "constant"
            case nodes.Not():
                self.kind(node.node)
                return "constant"
            case nodes.And() | nodes.Or():
                return joined(self.kind(node.left), self.kind(node.right))
            case nodes.CondExpr():
                self.kind(node.test)
                other: Kind = self.kind(node.expr2) if node.expr2 else "constant"
                return joined(self.kind(node.expr1), other)
            case nodes.Add():
                return self._concatenated([node.left, node.right])
            case nodes.Concat():
                return self._concatenated(node.nodes)
        self.constants(list(node.iter_child_nodes()))
        return "constant"

    def _concatenated(self, parts: list[Any]) -> Kind:
        are_mixed = [mixed(self.kind(part)) for part in parts]  # each is asked, whatever the first is
        return "mixed" if any(are_mixed) else "constant"

    def constants(self, parts: list[Any]) -> None:
        for part in parts:
            only(self.kind(part) == "constant")

    def _part(self, node: nodes.Getattr | nodes.Getitem) -> Kind:
        whole = node.node
        key = node.attr if isinstance(node, nodes.Getattr) else _literal(node.arg)
        if isinstance(whole, nodes.Name) and whole.name == "loop" and key in ("previtem", "nextitem"):
            return "messages"
        if isinstance(node, nodes.Getitem) and isinstance(key, int) and self._is_split(whole):
            return self._called(whole)
        kind = self.kind(whole)
        if kind == "namespace":
            only(isinstance(whole, nodes.Name) and isinstance(key, str))
            assert isinstance(whole, nodes.Name)
            return self.kinds.get(f"{whole.name}.{key}", "constant")
        if isinstance(node, nodes.Getitem):
            self.constants([node.arg])
        if kind == "constant":
            return kind
        only(kind == "messages")
        if isinstance(key, str):
            return "content" if key == "content" else "constant"
        assert isinstance(node, nodes.Getitem)
        only(isinstance(node.arg, nodes.Slice) or _is_number(node.arg))
        return "messages"

    def _filtered(self, node: nodes.Filter) -> Kind:
        only(node.node is not None)
        assert node.node is not None
        if node.name in ("first", "last") and self._is_split(node.node):
            return self._called(node.node)
        kind = self.kind(node.node)
        self.constants([*node.args, *node.kwargs])
        only(not (node.dyn_args or node.dyn_kwargs) and kind != "namespace")
        if kind == "constant":
            return kind
        if kind == "messages":
            if node.name in ("selectattr", "rejectattr"):
                only(bool(node.args) and getattr(node.args[0], "value", None) == "role")
                return kind
            only(node.name in _OF_MESSAGES)
            return _OF_MESSAGES[node.name]
        only(node.name in _KEEPING and not (node.name == "trim" and (node.args or node.kwargs)))
        return kind

    def _is_split(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "split"

    def _called(self, node: Any) -> Kind:
        self.constants([*node.args, *(pair.value for pair in node.kwargs)])
        only(not (node.dyn_args or node.dyn_kwargs))
        if isinstance(node.node, nodes.Name):
            name = node.node.name
            only(name in self.macros or name in _FUNCTIONS)
            return "mixed" if name in self.macros else "constant"
        only(isinstance(node.node, nodes.Getattr))
        kind, method = self.kind(node.node.node), node.node.attr
        if kind == "constant":
            return kind
        texts = [self._texts(argument) for argument in node.args[:2]]
        if kind == "messages":
            only(method == "get" and bool(texts) and len(texts[0]) == 1)
            return "content" if texts[0] == ["content"] else "constant"
        if method in _STRIPS:
            only(not any(text.strip() for each in texts for text in each))
            return kind
        only(kind == "content" and method in _SEEKS and bool(texts) and bool(texts[0]) and all(texts[0]))
        self.marks.update(texts[0])
        return "constant" if method in ("startswith", "endswith") else kind

    def _compared(self, node: nodes.Compare) -> Kind:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        kinds = [self.kind(side) for side in sides]
        if set(kinds) == {"constant"}:
            return "constant"
        only(len(sides) == 2 and kinds.count("constant") == 1)
        operator, constant = node.ops[0].op, sides[kinds.index("constant")]
        if "messages" in kinds:  # is there such a key?
            only(operator in ("in", "notin") and kinds[1] == "messages")
            return "constant"
        only("content" in kinds and operator in ("in", "notin", "eq", "ne"))
        # a content may be a part of a text without holding it
        only(operator in ("eq", "ne") or kinds[1] == "content" or isinstance(constant, (nodes.List, nodes.Tuple)))
        self.marks.update(self._texts(constant))
        return "constant"

    def _texts(self, node: nodes.Node) -> list[str]:
        """The texts that a constant may be: written there, or all that its name is ever set to."""
        if isinstance(node, nodes.Const):
            return [node.value] if isinstance(node.value, str) else []
        if isinstance(node, (nodes.List, nodes.Tuple)):
            return [text for item in node.items for text in self._texts(item)]
        only(isinstance(node, nodes.Name) and node.name in self.assigned and node.name not in self.varying)
        assert isinstance(node, nodes.Name)
        values = self.assigned[node.name]
        only(all(isinstance(value, nodes.Const) for value in values))
        return [text for value in values for text in self._texts(value)]

    def is_content_a_string(self, test: nodes.Node) -> bool:
        """`message.content is string`: ours always are, and what else it could be needs no following."""
        if not isinstance(test, nodes.Test) or test.name != "string":
            return False
        asked = test.node
        if not isinstance(asked, (nodes.Getattr, nodes.Getitem)) or self.kind(asked.node) != "messages":
            return False
        return self.kind(asked) == "content"


def only(is_followed: bool) -> None:
    if not is_followed:
        raise NotFollowedError


def mixed(kind: Kind) -> bool:
    """Does this text hold contents? Messages as they are, in their braces, are no text that we follow."""
    only(kind not in ("messages", "namespace"))
    return kind != "constant"


def joined(one: Kind, other: Kind) -> Kind:
    if one == other or other == "constant":
        return one
    if one == "constant":
        return other
    only({one, other} == {"content", "mixed"})
    return "mixed"


def name_of(node: nodes.Node) -> str:
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    only(isinstance(node, nodes.Name))
    assert isinstance(node, nodes.Name)
    return node.name


def _is_number(node: nodes.Node) -> bool:
    """Made of numbers and the loop's own count: no key of a message."""
    if isinstance(node, nodes.Const):
        return isinstance(node.value, int)
    if isinstance(node, nodes.Getattr):
        return isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr.startswith("index")
    if isinstance(node, (nodes.Add, nodes.Sub)):
        return _is_number(node.left) and _is_number(node.right)
    return isinstance(node, nodes.Neg) and _is_number(node.node)


def _literal(node: nodes.Expr) -> Any:
    """The value of `'key'`, `0`, `-1`; None of what is no constant."""
    is_written = isinstance(node, nodes.Const) or (isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const))
    return node.as_const() if is_written else None
