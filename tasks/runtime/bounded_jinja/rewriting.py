"""A template's syntax tree with what counts and measures put into it, as filters (steps.py)."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes

NODES_A_STEP = 4
"""What stands within a loop or macro is done anew in each turn or call: of a long body each costs more."""


def count_steps(tree: nodes.Template) -> None:
    """Rewrites a template in place: its loops, its joins and comparisons, and the bodies that are done more than once."""
    _weigh_bodies(tree)
    for loop in tree.find_all(nodes.For):
        loop.iter = _filtered(loop.iter, "strop_counted")
    for operand in tree.find_all(nodes.Operand):
        if not isinstance(operand.expr, nodes.Const):  # the other side of `==` and `<` costs no more
            operand.expr = _filtered(operand.expr, "strop_weighed")
    for part in list(tree.find_all(nodes.Getitem)):
        if isinstance(part.arg, nodes.Slice):
            part.node = _filtered(part.node, "strop_weighed")
        elif not isinstance(part.arg, nodes.Const):  # a tuple of tuples is hashed through and through
            part.arg = _filtered(part.arg, "strop_weighed")
    for pair in tree.find_all(nodes.Pair):
        if not isinstance(pair.key, nodes.Const):
            pair.key = _filtered(pair.key, "strop_weighed")
    _replace_joins(tree)


def _weigh_bodies(tree: nodes.Template) -> None:
    """Puts before what is done more than once (loops, macros, calls, blocks) how many steps that is."""
    repeated = (nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)
    each: Any
    for each in list(tree.find_all(repeated)):
        size, waiting = 0, list(each.body)
        while waiting:
            node = waiting.pop()
            size += 1
            if not isinstance(node, repeated):  # which has its own
                waiting.extend(node.iter_child_nodes())
        if steps := size // NODES_A_STEP:
            counting = nodes.ExprStmt(_filtered(nodes.Const(steps, lineno=each.lineno), "strop_stepped"))
            counting.node.environment = counting.environment = tree.environment
            each.body.insert(0, counting)


def _replace_joins(tree: nodes.Node) -> None:
    """`a ~ b` as a filter that measures."""
    for parent in [tree, *tree.find_all(nodes.Node)]:
        for field, value in parent.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(parent, field, _filtered(_listed(value), "strop_joined"))
            elif isinstance(value, list):
                value[:] = [_filtered(_listed(x), "strop_joined") if isinstance(x, nodes.Concat) else x for x in value]


def _listed(node: nodes.Concat) -> nodes.List:
    made = nodes.List(node.nodes, lineno=node.lineno)
    made.environment = node.environment
    return made


def _filtered(node: Any, name: str) -> nodes.Filter:
    made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    made.environment = node.environment
    return made
