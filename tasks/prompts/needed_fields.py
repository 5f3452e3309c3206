"""The fields without which a template makes no question. Pure."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import meta, nodes

from tasks.prompts.templates.templates import ENVIRONMENT

OF_USER = frozenset({"instruction", "input"})


@lru_cache(maxsize=1024)
def needed_fields(user: str) -> frozenset[str]:
    """The fields that a template's `user` names, one of which a request has at least; not those with a default of the template's
    own: `{{ instruction or 'Summarise this text.' }}`."""
    tree = ENVIRONMENT.parse(user)
    named = OF_USER & meta.find_undeclared_variables(tree)
    with_default = {
        node.left.name
        for node in tree.find_all(nodes.Or)
        if isinstance(node.left, nodes.Name) and isinstance(node.right, nodes.Const)
    }
    return frozenset(named - with_default or named)
