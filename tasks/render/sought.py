"""What a chat template looks for in contents: the shortcut of quick.py holds only for contents without these texts. Pure.

Every value in the template is followed from `messages` on, and only what is known to depend on no more of a content than whether it
is empty, what white space it ends in, and whether it holds one of a few constant texts is let through. All else (`content|length`,
`content[:9]`, a dictionary asked by a content, `for w in content`) makes the answer None, and every row is asked of the template.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from jinja2 import Environment, TemplateError, nodes

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


class _NotFollowedError(Exception):
    """The template does something with contents that we do not follow; never leaves this module."""


def compared_texts(chat_template: Any) -> tuple[str, ...] | None:
    """The texts that a chat template may look for in contents; None where that cannot be told."""
    if not isinstance(chat_template, str):
        return None
    # {% generation %} is transformers' own tag, and says nothing of contents
    text = re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", chat_template)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"]).parse(text)
        return _Reading(tree).sought()
    except (TemplateError, _NotFollowedError, RecursionError):
        return None


class _Reading:
    """One template, read until no name is found to hold more than it was known to."""

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

    def sought(self) -> tuple[str, ...]:
        known: dict[str, Kind] = {}
        while known != self.kinds:
            known = dict(self.kinds)
            self._all(self.tree.body)
        return tuple(sorted(mark for mark in self.marks if mark))

    def _all(self, statements: list[nodes.Node]) -> None:
        for statement in statements:
            self._statement(statement)

    def _statement(self, node: nodes.Node) -> None:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        _mixed(self._kind(part))
            case nodes.If():
                self._kind(node.test)
                self._all(node.body)
                if not self._is_content_a_string(node.test):
                    self._all([*node.elif_, *node.else_])
            case nodes.For():
                kind = self._kind(node.iter)
                _only(kind in ("constant", "messages") and not node.recursive)
                _only(kind == "constant" or isinstance(node.target, nodes.Name))
                for name in [node.target, *node.target.find_all(nodes.Name)]:
                    if isinstance(name, nodes.Name):
                        self._hold(name.name, kind)
                if node.test:
                    self._kind(node.test)
                self._all([*node.body, *node.else_])
            case nodes.Assign():
                self._assign(node.target, node.node)
            case nodes.AssignBlock():
                _only(node.filter is None)
                self._all(node.body)
                self._hold(_target(node.target), "mixed")
            case nodes.Macro():
                for name in node.args:
                    self._hold(name.name, "constant")
                self._constants(node.defaults)
                self._all(node.body)
            case nodes.ExprStmt():
                self._kind(node.node)
            case _:
                _only(isinstance(node, (nodes.Break, nodes.Continue)))

    def _assign(self, target: nodes.Node, value: nodes.Node) -> None:
        name = _target(target)
        if isinstance(value, nodes.Call) and isinstance(value.node, nodes.Name) and value.node.name == "namespace":
            _only(not (value.args or value.dyn_args or value.dyn_kwargs) and isinstance(target, nodes.Name))
            self._hold(name, "namespace")
            for pair in value.kwargs:
                self._hold(f"{name}.{pair.key}", self._kind(pair.value))
        else:
            kind = self._kind(value)
            _only(kind != "namespace")
            self._hold(name, kind)

    def _hold(self, name: str, kind: Kind) -> None:
        self.kinds[name] = _joined(self.kinds.get(name, "constant"), kind)

    def _kind(self, node: nodes.Node) -> Kind:
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
                kind = self._kind(node.node)
                self._constants([*node.args, *node.kwargs])
                _only(kind == "constant" or node.name in _TESTS)
                return "constant"
            case nodes.Not():
                self._kind(node.node)
                return "constant"
            case nodes.And() | nodes.Or():
                return _joined(self._kind(node.left), self._kind(node.right))
            case nodes.CondExpr():
                self._kind(node.test)
                other: Kind = self._kind(node.expr2) if node.expr2 else "constant"
                return _joined(self._kind(node.expr1), other)
            case nodes.Add():
                return self._concatenated([node.left, node.right])
            case nodes.Concat():
                return self._concatenated(node.nodes)
        self._constants(list(node.iter_child_nodes()))
        return "constant"

    def _concatenated(self, parts: list[Any]) -> Kind:
        are_mixed = [_mixed(self._kind(part)) for part in parts]  # each is asked, whatever the first is
        return "mixed" if any(are_mixed) else "constant"

    def _constants(self, parts: list[Any]) -> None:
        for part in parts:
            _only(self._kind(part) == "constant")

    def _part(self, node: nodes.Getattr | nodes.Getitem) -> Kind:
        whole = node.node
        key = node.attr if isinstance(node, nodes.Getattr) else _literal(node.arg)
        if isinstance(whole, nodes.Name) and whole.name == "loop" and key in ("previtem", "nextitem"):
            return "messages"
        if isinstance(node, nodes.Getitem) and isinstance(key, int) and self._is_split(whole):
            return self._called(whole)
        kind = self._kind(whole)
        if kind == "namespace":
            _only(isinstance(whole, nodes.Name) and isinstance(key, str))
            assert isinstance(whole, nodes.Name)
            return self.kinds.get(f"{whole.name}.{key}", "constant")
        if isinstance(node, nodes.Getitem):
            self._constants([node.arg])
        if kind == "constant":
            return kind
        _only(kind == "messages")
        if isinstance(key, str):
            return "content" if key == "content" else "constant"
        assert isinstance(node, nodes.Getitem)
        _only(isinstance(node.arg, nodes.Slice) or _is_number(node.arg))
        return "messages"

    def _filtered(self, node: nodes.Filter) -> Kind:
        _only(node.node is not None)
        assert node.node is not None
        if node.name in ("first", "last") and self._is_split(node.node):
            return self._called(node.node)
        kind = self._kind(node.node)
        self._constants([*node.args, *node.kwargs])
        _only(not (node.dyn_args or node.dyn_kwargs) and kind != "namespace")
        if kind == "constant":
            return kind
        if kind == "messages":
            if node.name in ("selectattr", "rejectattr"):
                _only(bool(node.args) and getattr(node.args[0], "value", None) == "role")
                return kind
            _only(node.name in _OF_MESSAGES)
            return _OF_MESSAGES[node.name]
        _only(node.name in _KEEPING and not (node.name == "trim" and (node.args or node.kwargs)))
        return kind

    def _is_split(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "split"

    def _called(self, node: Any) -> Kind:
        self._constants([*node.args, *(pair.value for pair in node.kwargs)])
        _only(not (node.dyn_args or node.dyn_kwargs))
        if isinstance(node.node, nodes.Name):
            name = node.node.name
            _only(name in self.macros or name in _FUNCTIONS)
            return "mixed" if name in self.macros else "constant"
        _only(isinstance(node.node, nodes.Getattr))
        kind, method = self._kind(node.node.node), node.node.attr
        if kind == "constant":
            return kind
        texts = [self._texts(argument) for argument in node.args[:2]]
        if kind == "messages":
            _only(method == "get" and bool(texts) and len(texts[0]) == 1)
            return "content" if texts[0] == ["content"] else "constant"
        if method in _STRIPS:
            _only(not any(text.strip() for each in texts for text in each))
            return kind
        _only(kind == "content" and method in _SEEKS and bool(texts) and bool(texts[0]) and all(texts[0]))
        self.marks.update(texts[0])
        return "constant" if method in ("startswith", "endswith") else kind

    def _compared(self, node: nodes.Compare) -> Kind:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        kinds = [self._kind(side) for side in sides]
        if set(kinds) == {"constant"}:
            return "constant"
        _only(len(sides) == 2 and kinds.count("constant") == 1)
        operator, constant = node.ops[0].op, sides[kinds.index("constant")]
        if "messages" in kinds:  # is there such a key?
            _only(operator in ("in", "notin") and kinds[1] == "messages")
            return "constant"
        _only("content" in kinds and operator in ("in", "notin", "eq", "ne"))
        # a content may be a part of a text without holding it
        _only(operator in ("eq", "ne") or kinds[1] == "content" or isinstance(constant, (nodes.List, nodes.Tuple)))
        self.marks.update(self._texts(constant))
        return "constant"

    def _texts(self, node: nodes.Node) -> list[str]:
        """The texts that a constant may be: written there, or all that its name is ever set to."""
        if isinstance(node, nodes.Const):
            return [node.value] if isinstance(node.value, str) else []
        if isinstance(node, (nodes.List, nodes.Tuple)):
            return [text for item in node.items for text in self._texts(item)]
        _only(isinstance(node, nodes.Name) and node.name in self.assigned and node.name not in self.varying)
        assert isinstance(node, nodes.Name)
        values = self.assigned[node.name]
        _only(all(isinstance(value, nodes.Const) for value in values))
        return [text for value in values for text in self._texts(value)]

    def _is_content_a_string(self, test: nodes.Node) -> bool:
        """`message.content is string`: ours always are, and what else it could be needs no following."""
        if not isinstance(test, nodes.Test) or test.name != "string":
            return False
        asked = test.node
        if not isinstance(asked, (nodes.Getattr, nodes.Getitem)) or self._kind(asked.node) != "messages":
            return False
        return self._kind(asked) == "content"


def _only(is_followed: bool) -> None:
    if not is_followed:
        raise _NotFollowedError


def _mixed(kind: Kind) -> bool:
    """Does this text hold contents? Messages as they are, in their braces, are no text that we follow."""
    _only(kind not in ("messages", "namespace"))
    return kind != "constant"


def _joined(one: Kind, other: Kind) -> Kind:
    if one == other or other == "constant":
        return one
    if one == "constant":
        return other
    _only({one, other} == {"content", "mixed"})
    return "mixed"


def _target(node: nodes.Node) -> str:
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    _only(isinstance(node, nodes.Name))
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
