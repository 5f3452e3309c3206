"""What a chat template looks for in contents: chat_template_cache.py holds only for contents without it. Pure.

Every value in the template is followed from `messages` on, and only what is known to depend on no more of a content than whether it
is empty, what white space it ends in, and whether it holds one of a few constant texts is let through. All else (`content|length`,
`content[:9]`, a dictionary asked by a content, `for w in content`) makes the answer None, and every row is asked of the template.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, TemplateError, nodes

from tasks.render.templates.template_expressions import Expressions, Kind, NotFollowedError, mixed, name_of, only


def compared_texts(chat_template: Any) -> tuple[str, ...] | None:
    """The texts that a chat template may look for in contents; None where that cannot be told."""
    if not isinstance(chat_template, str):
        return None
    # {% generation %} is transformers' own tag, and says nothing of contents
    text = re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", chat_template)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"]).parse(text)
        return _Reading(tree).sought()
    except (TemplateError, NotFollowedError, RecursionError):
        return None


class _Reading(Expressions):
    """One template, read until no name is found to hold more than it was known to."""

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
                        mixed(self.kind(part))
            case nodes.If():
                self.kind(node.test)
                self._all(node.body)
                if not self.is_content_a_string(node.test):
                    self._all([*node.elif_, *node.else_])
            case nodes.For():
                kind = self.kind(node.iter)
                only(kind in ("constant", "messages") and not node.recursive)
                only(kind == "constant" or isinstance(node.target, nodes.Name))
                for name in [node.target, *node.target.find_all(nodes.Name)]:
                    if isinstance(name, nodes.Name):
                        self.hold(name.name, kind)
                if node.test:
                    self.kind(node.test)
                self._all([*node.body, *node.else_])
            case nodes.Assign():
                self._assign(node.target, node.node)
            case nodes.AssignBlock():
                only(node.filter is None)
                self._all(node.body)
                self.hold(name_of(node.target), "mixed")
            case nodes.Macro():
                for name in node.args:
                    self.hold(name.name, "constant")
                self.constants(node.defaults)
                self._all(node.body)
            case nodes.ExprStmt():
                self.kind(node.node)
            case _:
                only(isinstance(node, (nodes.Break, nodes.Continue)))

    def _assign(self, target: nodes.Node, value: nodes.Node) -> None:
        name = name_of(target)
        if isinstance(value, nodes.Call) and isinstance(value.node, nodes.Name) and value.node.name == "namespace":
            only(not (value.args or value.dyn_args or value.dyn_kwargs) and isinstance(target, nodes.Name))
            self.hold(name, "namespace")
            for pair in value.kwargs:
                self.hold(f"{name}.{pair.key}", self.kind(pair.value))
        else:
            kind = self.kind(value)
            only(kind != "namespace")
            self.hold(name, kind)
