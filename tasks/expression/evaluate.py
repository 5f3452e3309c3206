"""Evaluates a checked expression (expression.py) over a table: arrow for texts, numpy for numbers and booleans. Pure."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.expression.measure import characters_of, column, floats, segments_of, truths
from tasks.expression.pattern import Pattern

Kind = Literal["text", "number", "truth", "list"]


def _divided(left: Any, right: Any) -> Any:
    """A division by zero gives NaN, not infinity."""
    return np.true_divide(left, np.where(np.equal(right, 0), np.nan, right))


Operation = Callable[[Any, Any], Any]
COMPARE: dict[type[ast.cmpop], tuple[Operation, Operation]] = {
    ast.Lt: (operator.lt, pc.less), ast.LtE: (operator.le, pc.less_equal), ast.Gt: (operator.gt, pc.greater),
    ast.GtE: (operator.ge, pc.greater_equal), ast.Eq: (operator.eq, pc.equal), ast.NotEq: (operator.ne, pc.equal),
}  # fmt: skip
"""The operations on numbers and on texts; the result of the latter is negated for NotEq."""
CALCULATE: dict[type[ast.operator], Operation] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: _divided,
}  # fmt: skip


@dataclass
class Evaluator:
    """Evaluates a checked tree over a table. Texts are arrow arrays or str, numbers and booleans numpy arrays or scalars."""

    table: pa.Table
    columns: Mapping[str, Kind]

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                combine = np.logical_and if isinstance(op, ast.And) else np.logical_or
                result = self.value(values[0])
                for operand in values[1:]:
                    result = combine(result, self.value(operand))
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return np.logical_not(self.value(operand))
            case ast.UnaryOp(operand=operand):
                return np.negative(self.value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return CALCULATE[type(op)](np.float64(self.value(left)), np.float64(self.value(right)))
            case ast.Compare():
                return self._compare(node)
            case ast.Call(func=ast.Name(id=name), args=args):
                return self._call(name, args)
            case ast.Name(id=name):
                return self._column(name)
            case ast.Constant(value=value):
                return value
        raise AssertionError(f"unchecked {ast.dump(node)}")

    def _column(self, name: str) -> Any:
        """A null is an empty text, NaN (comparing it is false) or false."""
        if self.columns[name] == "text":
            return column(self.table, name)
        values = self.table.column(name).combine_chunks()
        return truths(values) if self.columns[name] == "truth" else floats(values)

    def _compare(self, node: ast.Compare) -> Any:
        result: Any = True
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                assert isinstance(right, ast.List | ast.Tuple)
                listed = [element.value for element in right.elts if isinstance(element, ast.Constant)]
                outcome = _is_in(self.value(left), listed)
                outcome = np.logical_not(outcome) if isinstance(op, ast.NotIn) else outcome
            else:
                outcome = _compare(self.value(left), type(op), self.value(right))
            result = np.logical_and(result, outcome)
            left = right
        return result

    def _call(self, name: str, args: list[ast.expr]) -> Any:
        text = self.value(args[0])
        texts = pa.array([text] * self.table.num_rows, pa.string()) if isinstance(text, str) else text
        if name == "length":
            return characters_of(texts)
        if name == "segments":
            return segments_of(texts)
        if name == "lower":
            return pc.utf8_lower(texts)
        argument = self.value(args[1])
        if name == "contains":
            return truths(pc.match_substring(texts, argument))
        return Pattern.compile(argument).matches(texts)


def _compare(left: Any, op: type[ast.cmpop], right: Any) -> Any:
    compare, compare_texts = COMPARE[op]
    if isinstance(left, str) and isinstance(right, str):
        return compare(left, right)
    if not (isinstance(left, pa.Array) or isinstance(right, pa.Array)):
        is_number = ~(np.isnan(left) | np.isnan(right))
        return np.logical_and(compare(left, right), is_number)
    is_true = truths(compare_texts(left, right))
    return ~is_true if op is ast.NotEq else is_true


def _is_in(value: Any, listed: list[Any]) -> Any:
    if isinstance(value, pa.Array):
        return truths(pc.is_in(value, pa.array(listed, pa.string())))
    return np.isin(value, listed)
