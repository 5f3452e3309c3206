"""Inserts filters (steps.py) into a template's syntax tree that count steps and check sizes."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes

NODES_PER_STEP = 4
"""The body of a loop or macro runs in each iteration or call: a longer body costs more steps."""


def count_steps(tree: nodes.Template) -> None:
    """Rewrites a template in place: loops, concatenations, comparisons, and bodies that run more than once."""
    _weigh_bodies(tree)
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, "strop_counted")
    for operand in tree.find_all(nodes.Operand):
        if not isinstance(operand.expr, nodes.Const):  # the cost of `==` and `<` depends on the smaller side
            operand.expr = _filtered(operand.expr, "strop_weighed")
    for part in list(tree.find_all(nodes.Getitem)):
        if isinstance(part.arg, nodes.Slice):
            part.node = _filtered(part.node, "strop_weighed")
        elif not isinstance(part.arg, nodes.Const):  # hashing a nested tuple visits all its items
            part.arg = _filtered(part.arg, "strop_weighed")
    for pair in tree.find_all(nodes.Pair):
        if not isinstance(pair.key, nodes.Const):
            pair.key = _filtered(pair.key, "strop_weighed")
    _replace_joins(tree)


def _weigh_bodies(tree: nodes.Template) -> None:
    """Inserts the number of steps at the start of each body that may run more than once (loops, macros, calls, blocks)."""
    repeated = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)
    body: Any
    for body in list(tree.find_all(repeated)):
        size, pending = 0, list(body.body)
        while pending:
            node = pending.pop()
            size += 1
            if not isinstance(node, repeated):  # those have their own count
                pending.extend(node.iter_child_nodes())
        if steps := size // NODES_PER_STEP:
            counting = nodes.ExprStmt(_filtered(nodes.Const(steps, lineno=body.lineno), "strop_stepped"))
            counting.node.environment = counting.environment = tree.environment
            body.body.insert(0, counting)


def _replace_joins(tree: nodes.Node) -> None:
    """Replaces `a ~ b` by a filter that checks the size."""
    for parent in [tree, *tree.find_all(nodes.Node)]:
        for field, value in parent.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(parent, field, _filtered(_as_list(value), "strop_joined"))
            elif isinstance(value, list):
                value[:] = [_filtered(_as_list(x), "strop_joined") if isinstance(x, nodes.Concat) else x for x in value]


def _as_list(node: nodes.Concat) -> nodes.List:
    new = nodes.List(node.nodes, lineno=node.lineno)
    new.environment = node.environment
    return new


def _filtered(node: Any, name: str) -> nodes.Filter:
    new = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    new.environment = node.environment
    return new
