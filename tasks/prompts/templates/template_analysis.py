"""The texts that a chat template searches in contents: chat_template_cache.py is valid only for contents without them. Pure.

A data-flow analysis from `messages` on: an expression is accepted if it depends only on whether a content is empty, on its
surrounding white space, and on whether it holds one of a few constant texts. Anything else (`content|length`, `content[:9]`, a
dictionary look-up by a content, `for w in content`) gives None, and the template is applied to every row.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, TemplateError, nodes

from tasks.prompts.templates.template_expressions import (
    Expressions,
    Kind,
    UntrackedError,
    has_contents,
    name_of,
    require,
)


def compared_texts(chat_template: Any) -> tuple[str, ...] | None:
    """The texts that a chat template may search in contents; None where the analysis fails."""
    if not isinstance(chat_template, str):
        return None
    # {% generation %} is transformers' own tag, and does not depend on contents
    text = re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", chat_template)
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do"]).parse(text)
        return _TemplateReader(tree).read()
    except (TemplateError, UntrackedError, RecursionError):
        return None


class _TemplateReader(Expressions):
    """One template, read repeatedly until the kinds of its names do not change any more (a fixed point)."""

    def read(self) -> tuple[str, ...]:
        previous: dict[str, Kind] = {}
        while previous != self.kinds:
            previous = dict(self.kinds)
            self._read_all(self.tree.body)
        return tuple(sorted(text for text in self.compared if text))

    def _read_all(self, statements: list[nodes.Node]) -> None:
        for statement in statements:
            self._statement(statement)

    def _statement(self, node: nodes.Node) -> None:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        has_contents(self.kind(part))
            case nodes.If():
                self.kind(node.test)
                self._read_all(node.body)
                if not self.is_content_a_string(node.test):
                    self._read_all([*node.elif_, *node.else_])
            case nodes.For():
                kind = self.kind(node.iter)
                require(kind in ("constant", "messages") and not node.recursive)
                require(kind == "constant" or isinstance(node.target, nodes.Name))
                for name in [node.target, *node.target.find_all(nodes.Name)]:
                    if isinstance(name, nodes.Name):
                        self.add_kind(name.name, kind)
                if node.test:
                    self.kind(node.test)
                self._read_all([*node.body, *node.else_])
            case nodes.Assign():
                self._assign(node.target, node.node)
            case nodes.AssignBlock():
                require(node.filter is None)
                self._read_all(node.body)
                self.add_kind(name_of(node.target), "mixed")
            case nodes.Macro():
                for name in node.args:
                    self.add_kind(name.name, "constant")
                self.constants(node.defaults)
                self._read_all(node.body)
            case nodes.ExprStmt():
                self.kind(node.node)
            case _:
                require(isinstance(node, (nodes.Break, nodes.Continue)))

    def _assign(self, target: nodes.Node, value: nodes.Node) -> None:
        name = name_of(target)
        if isinstance(value, nodes.Call) and isinstance(value.node, nodes.Name) and value.node.name == "namespace":
            require(not (value.args or value.dyn_args or value.dyn_kwargs) and isinstance(target, nodes.Name))
            self.add_kind(name, "namespace")
            for pair in value.kwargs:
                self.add_kind(f"{name}.{pair.key}", self.kind(pair.value))
        else:
            kind = self.kind(value)
            require(kind != "namespace")
            self.add_kind(name, kind)
