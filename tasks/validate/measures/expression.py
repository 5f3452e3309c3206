"""A rule of a contract as an expression: `length(output) <= 3 * length(input)`. Parsed here, evaluated over arrow columns; no eval.

comparisons      <  <=  >  >=  ==  !=  in [...]  not in [...]
booleans         and  or  not
numbers          +  -  *  /          (a division by zero gives NaN: comparing it is false)
of a text        length(x)  segments(x)  lower(x)  contains(x, "...")  matches(x, "...")
columns          system, history, instruction, input, output, tools, rejected, language, source, family
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from tasks.validate.measures.evaluate_expression import CALCULATE, COMPARE, Evaluator
from tasks.validate.measures.measure import Mask
from tasks.validate.measures.pattern import Pattern

Kind = Literal["text", "number", "truth", "list"]

TEXT_COLUMNS = ("system", "history", "instruction", "input", "output", "tools", "rejected")
COLUMNS = (*TEXT_COLUMNS, "language", "source", "family")
MOST_NODES = 200
MOST_CHARACTERS = 10_000
MOST_NUMBER = 1e15


_FUNCTIONS: dict[str, tuple[int, Kind]] = {
    "length": (1, "number"), "segments": (1, "number"), "lower": (1, "text"), "contains": (2, "truth"), "matches": (2, "truth"),
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    tree: ast.expr
    columns: tuple[str, ...]
    """The columns that it reads, in the order in which it names them."""

    def holds(self, table: pa.Table) -> Mask:
        """(rows,) is it true?"""
        with np.errstate(all="ignore"):
            value = Evaluator(table).value(self.tree)
        return np.broadcast_to(np.asarray(value, dtype=np.bool_), table.num_rows).copy()


def parse_expression(text: str) -> Expression:
    """Parses and checks an expression.

    Raises:
        ValueError: it is not an expression, or compares different types; the message says where.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it has more than {MOST_CHARACTERS:,} characters; split it into two rules")
    try:
        tree = ast.parse(" ".join(text.split()) if "\n" in text else text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an expression: {getattr(error, 'msg', None) or 'too deep'}") from error
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES} parts; split it into two rules")
    if _kind(tree) != "truth":
        raise ValueError("it should be true or false, such as length(output) <= 500")
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in COLUMNS]
    if not names:
        raise ValueError(f"it names no column; there are {', '.join(COLUMNS)}")
    return Expression(tree, tuple(dict.fromkeys(names)))


def _kind(node: ast.expr) -> Kind:
    """The type of the part; raises ValueError where it is not in the language."""
    match node:
        case ast.BoolOp(values=values):
            return _all_are("truth", "truth", *values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _all_are("truth", "truth", operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _all_are("number", "number", operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in CALCULATE:
            return _all_are("number", "number", left, right)
        case ast.Compare():
            return _kind_of_comparison(node)
        case ast.Call():
            return _kind_of_call(node)
        case ast.Name(id=name):
            if name not in COLUMNS:
                raise ValueError(f"`{name}` is not a column; there are {', '.join(COLUMNS)}")
            return "text"
        case ast.Constant(value=bool()):
            return "truth"
        case ast.Constant(value=str()):
            return "text"
        case ast.Constant(value=int() | float() as number):
            if not abs(number) < MOST_NUMBER:
                raise ValueError(f"a number should be below {MOST_NUMBER:.0e}")
            return "number"
    raise ValueError(f"`{ast.unparse(node)}` is not part of this language; see the contract's comments")


def _all_are(expected: Kind, result: Kind, *nodes: ast.expr) -> Kind:
    for node in nodes:
        if (kind := _kind(node)) != expected:
            raise ValueError(f"`{ast.unparse(node)}` is a {kind}, but should be a {expected}")
    return result


def _kind_of_comparison(node: ast.Compare) -> Kind:
    left = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                raise ValueError(f"`in` needs a list, such as in ['a', 'b'], not `{ast.unparse(right)}`")
            if not all(isinstance(element, ast.Constant) for element in right.elts):
                raise ValueError(f"`{ast.unparse(right)}` may hold only texts or numbers")
            _all_are(_kind(left), "list", *right.elts)
        elif type(op) not in COMPARE:
            raise ValueError(f"`{ast.unparse(node)}` is not part of this language; see the contract's comments")
        elif _kind(left) != _kind(right):
            raise ValueError(
                f"`{ast.unparse(left)}` is a {_kind(left)}, `{ast.unparse(right)}` a {_kind(right)}: they cannot be compared"
            )
        left = right
    return "truth"


def _kind_of_call(node: ast.Call) -> Kind:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in _FUNCTIONS:
        raise ValueError(f"`{name}` is not a function; there are {', '.join(_FUNCTIONS)}")
    count, result = _FUNCTIONS[name]
    if len(node.args) != count or node.keywords:
        raise ValueError(f"`{name}` takes {count} argument{'s' * (count > 1)}")
    _all_are("text", "text", *node.args)
    if count == 2:
        if not isinstance(node.args[1], ast.Constant):
            raise ValueError(f"`{name}` needs a text in quotes as its second argument")
        if name == "matches":
            Pattern.compile(str(node.args[1].value))
    return result
