"""A condition on the rows of a table as an expression: `length(output) <= 3 * length(input)`. Parsed here, evaluated over arrow
columns; no eval.

comparisons      <  <=  >  >=  ==  !=  in [...]  not in [...]
booleans         and  or  not
numbers          +  -  *  /          (a division by zero gives NaN: comparing it is false)
of a text        length(x)  segments(x)  lower(x)  contains(x, "...")  matches(x, "...")
columns          those of the `Language`: for a rule of a contract system, history, instruction, input, output, tools, rejected,
                 language, source, family
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import regex

from tasks.expression.evaluate import CALCULATE, COMPARE, Evaluator, Kind
from tasks.expression.measure import Mask
from tasks.expression.pattern import Pattern

TEXT_COLUMNS = ("system", "history", "instruction", "input", "output", "tools", "rejected")
COLUMNS = (*TEXT_COLUMNS, "language", "source", "family")
MOST_NODES = 200
MOST_CHARACTERS = 10_000
MOST_NUMBER = 1e15

_CONTROL = regex.compile(r"[\x00-\x08\x0e-\x1f]")
_FUNCTIONS: dict[str, tuple[int, Kind]] = {
    "length": (1, "number"), "segments": (1, "number"), "lower": (1, "text"), "contains": (2, "truth"), "matches": (2, "truth"),
}  # fmt: skip


@dataclass(frozen=True)
class Language:
    """What an expression may name."""

    columns: Mapping[str, Kind]
    """Column → its type: text, number or truth."""
    page: str = "the contract's comments"
    """Where the language is described, for errors."""


CONTRACT = Language(dict.fromkeys(COLUMNS, "text"))


@dataclass(frozen=True)
class Expression:
    tree: ast.expr
    language: Language
    columns: tuple[str, ...]
    """The columns that it reads, in the order in which it names them."""

    def holds(self, table: pa.Table) -> Mask:
        """(rows,) is it true?"""
        with np.errstate(all="ignore"):
            value = Evaluator(table, self.language.columns).value(self.tree)
        return np.broadcast_to(np.asarray(value, dtype=np.bool_), table.num_rows).copy()


def parse_expression(text: str, language: Language = CONTRACT) -> Expression:
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
    if _Types(language).of(tree) != "truth":
        raise ValueError("it should be true or false, such as length(output) <= 500")
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in language.columns]
    if not names:
        raise ValueError(f"it names no column; there are {', '.join(language.columns)}")
    return Expression(tree, language, tuple(dict.fromkeys(names)))


@dataclass(frozen=True)
class _Types:
    """The types of the parts of an expression; a part that is not in the language raises ValueError."""

    language: Language

    def of(self, node: ast.expr) -> Kind:
        """The type of the part; raises ValueError where it is not in the language."""
        match node:
            case ast.BoolOp(values=values):
                return self._all_are("truth", "truth", *values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._all_are("truth", "truth", operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._all_are("number", "number", operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in CALCULATE:
                return self._all_are("number", "number", left, right)
            case ast.Compare():
                return self._kind_of_comparison(node)
            case ast.Call():
                return self._kind_of_call(node)
            case ast.Name(id=name):
                if name not in self.language.columns:
                    raise ValueError(f"`{name}` is not a column; there are {', '.join(self.language.columns)}")
                return self.language.columns[name]
            case ast.Constant(value=bool()):
                return "truth"
            case ast.Constant(value=str()):
                return "text"
            case ast.Constant(value=int() | float() as number):
                if not abs(number) < MOST_NUMBER:
                    raise ValueError(f"a number should be below {MOST_NUMBER:.0e}")
                return "number"
        raise ValueError(f"`{ast.unparse(node)}` is not part of this language; see {self.language.page}")

    def _all_are(self, expected: Kind, result: Kind, *nodes: ast.expr) -> Kind:
        for node in nodes:
            if (kind := self.of(node)) != expected:
                raise ValueError(f"`{ast.unparse(node)}` is a {kind}, but should be a {expected}")
        return result

    def _kind_of_comparison(self, node: ast.Compare) -> Kind:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                    raise ValueError(f"`in` needs a list, such as in ['a', 'b'], not `{ast.unparse(right)}`")
                if not all(isinstance(element, ast.Constant) for element in right.elts):
                    raise ValueError(f"`{ast.unparse(right)}` may hold only texts or numbers")
                self._all_are(self.of(left), "list", *right.elts)
            elif type(op) not in COMPARE:
                raise ValueError(f"`{ast.unparse(node)}` is not part of this language; see {self.language.page}")
            elif self.of(left) != self.of(right):
                kinds = f"`{ast.unparse(left)}` is a {self.of(left)}, `{ast.unparse(right)}` a {self.of(right)}"
                raise ValueError(f"{kinds}: they cannot be compared")
            left = right
        return "truth"

    def _kind_of_call(self, node: ast.Call) -> Kind:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in _FUNCTIONS:
            raise ValueError(f"`{name}` is not a function; there are {', '.join(_FUNCTIONS)}")
        count, result = _FUNCTIONS[name]
        if len(node.args) != count or node.keywords:
            raise ValueError(f"`{name}` takes {count} argument{'s' * (count > 1)}")
        self._all_are("text", "text", *node.args)
        if count == 2:
            if not isinstance(node.args[1], ast.Constant):
                raise ValueError(f"`{name}` needs a text in quotes as its second argument")
            if name == "matches":
                if _CONTROL.search(str(node.args[1].value)):
                    raise ValueError(
                        r"`\b` and `\1` are control characters here: put r before the quotes, as in r'\bcat\b'"
                    )
                Pattern.compile(str(node.args[1].value))
        return result
