"""Jinja that somebody else wrote (a template of a family, of a recipe, a model's own chat template), in bounded time and memory.

Jinja's sandbox keeps a template from the machine, not from its time: loops within loops, texts doubled again and again, and
`'x' * 10**9` it lets through. Here each turn of a loop and each call is counted, and each text is measured before it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import lru_cache
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_STEPS = 1_000_000
"""Turns of loops and calls in one rendering: a dialogue of a thousand turns takes some thousands."""
MOST_CHARACTERS = 64 * 1024 * 1024
"""Of one text, and of all that a rendering writes."""
MOST_ITEMS = 1_000_000
"""Of one list that is made of others."""
MOST_WIDTH = 1_000_000
STEPS_A_CALL = 4
CHARACTERS_A_STEP = 256
"""Text that is put together counts as steps, too: it is copied."""
_WIDE_PERCENT = re.compile(r"%[^a-zA-Z%]*(?:[0-9]{7}|\*)")
_WIDE_FORMAT = re.compile(r"\{[^{}]*[0-9]{7}")
_PADDING = ("center", "expandtabs", "ljust", "rjust", "zfill")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also ends what takes too long or grows too large, with a SecurityError."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.bound()

    def bound(self) -> None:
        """Replaces what makes texts of any length."""
        self.globals.pop("lipsum", None)
        self.filters |= {"strop_counted": _counted, "strop_joined": _joined}
        for name in ("center", "indent", "wordwrap", "format", "replace"):
            if not getattr(self.filters[name], "is_bounded", False):
                self.filters[name] = _bounded(name, self.filters[name])

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        try:
            tree = super()._parse(source, name, filename)
        except RecursionError:
            raise SecurityError("it is nested too deeply") from None
        for loop in tree.find_all(nodes.For):
            loop.iter = _filtered(loop.iter, "strop_counted")
        _replace_joins(tree)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            if not (_is_small(left, 10**6) and _is_small(right, 64)):
                raise SecurityError("a power of large numbers")
        elif operator == "*":
            _require_product(left, right)
        elif operator == "%":
            if isinstance(left, str) and _WIDE_PERCENT.search(left):
                raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by %")
        elif isinstance(left, Sized) and isinstance(right, Sized):
            _require_size(left, len(left) + len(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, (str, list)):
            _step(context, len(result) // CHARACTERS_A_STEP)
        return result

    def call(__self, __context: Context, __obj: Any, *arguments: Any, **named: Any) -> Any:
        _step(__context, STEPS_A_CALL)
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, LoopContext) and arguments and isinstance(arguments[0], Sized):  # a loop within itself
            _step(__context, len(arguments[0]))
        if isinstance(owner, (str, bytes)):
            _require_text(owner, getattr(__obj, "__name__", ""), arguments, named)
        return super().call(__context, __obj, *arguments, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def measured(*arguments: Any, **named: Any) -> str:
            _require_text(str(value.__self__), "format", arguments, named)
            return wrapped(*arguments, **named)

        return measured

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:  # type: ignore[override]
        """The text of a rendering."""
        found, size = [], 0
        for piece in pieces:
            size += len(piece)
            if size > MOST_CHARACTERS:
                raise SecurityError(f"it writes more than {MOST_CHARACTERS:,} characters")
            found.append(piece)
        return "".join(found)


def has_loops(environment: BoundedEnvironment, source: str) -> bool:
    """May the template write more than once what it is given? Then what it writes is to be measured (`concat`)."""
    tree = environment.parse(source)
    return next(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)), None) is not None


def begin(context: Context) -> None:
    """Counts anew, in a context that is used again."""
    context.strop_steps = 0  # type: ignore[attr-defined]


def bound_chat_templates() -> None:
    """Has transformers render chat templates in bounded time and memory, in this process."""
    from transformers.utils import chat_template_utils

    plain = chat_template_utils._compile_jinja_template
    if getattr(plain, "is_bounded", False):
        return

    @lru_cache(maxsize=64)
    def compiled(chat_template: str) -> Any:
        # transformers' own filters and tags; of an empty template, because compiling alone computes its constants
        environment = chat_template_utils._cached_compile_jinja_template("").environment
        environment.__class__ = BoundedEnvironment
        environment.bound()
        return environment.from_string(chat_template)

    compiled.is_bounded = True  # type: ignore[attr-defined]
    chat_template_utils._compile_jinja_template = compiled


def _filtered(node: Any, name: str) -> nodes.Filter:
    made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)
    made.environment = node.environment
    return made


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


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any] | Iterable[Any]:
    # what has a length keeps it: a loop may ask for it
    if isinstance(values, Sized):
        _step(context, len(values))
        return values
    return _counting(context, values)


def _counting(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _step(context)
        yield value


@pass_context
def _joined(context: Context, parts: list[Any]) -> str:
    texts = [str(part) for part in parts]
    size = sum(map(len, texts))
    _require_size("", size)
    _step(context, size // CHARACTERS_A_STEP)
    return "".join(texts)


def _step(context: Context, steps: int = 1) -> None:
    taken = getattr(context, "strop_steps", 0) + steps
    context.strop_steps = taken  # type: ignore[attr-defined]
    if taken > MOST_STEPS:
        raise SecurityError(f"it takes more than {MOST_STEPS:,} steps")


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(*arguments: Any, **named: Any) -> Any:
        texts = [each for each in arguments if isinstance(each, str)]
        _require_text(texts[0] if texts else "", name, arguments, named)
        return filter_(*arguments, **named)

    for mark in ("jinja_pass_arg",):
        if hasattr(filter_, mark):
            setattr(bounded, mark, getattr(filter_, mark))
    bounded.is_bounded = True  # type: ignore[attr-defined]
    return bounded


def _require_text(owner: str | bytes, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Measures what a method of a text, or a filter, would make."""
    given = [*arguments, *named.values()]
    if name in _PADDING or name in ("indent", "wordwrap"):
        if not all(_is_small(each, MOST_WIDTH) for each in given if isinstance(each, int)):
            raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by {name}")
        widest = max((abs(each) for each in given if isinstance(each, int)), default=8)
        if name == "expandtabs":
            _require_size("", len(owner) * max(widest, 1))
        elif name == "indent":
            _require_size("", len(owner) + str(owner).count("\n") * widest)
    elif name in ("format", "format_map"):
        is_wide = any(isinstance(each, int) and not _is_small(each, MOST_WIDTH) for each in given)
        if is_wide or _WIDE_FORMAT.search(str(owner)) or _WIDE_PERCENT.search(str(owner)):
            raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by {name}")
    elif name == "replace":
        texts = [each for each in given if isinstance(each, (str, bytes))]
        longest = max(map(len, texts), default=0)
        shortest = max(min(map(len, texts), default=1), 1)
        _require_size("", len(owner) + (len(owner) // shortest + 1) * longest if longest > 64 else 0)


def _require_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > 4096:
            raise SecurityError("a product of large numbers")
        return
    for many, times in ((left, right), (right, left)):
        if isinstance(many, Sized) and isinstance(times, int):
            _require_size(many, len(many) * max(times, 0))


def _require_size(kind: Any, size: int) -> None:
    most, what = (MOST_CHARACTERS, "characters") if isinstance(kind, (str, bytes)) else (MOST_ITEMS, "items")
    if size > most:
        raise SecurityError(f"it makes more than {most:,} {what} at once")


def _is_small(value: Any, most: int) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= most
