"""Counts the steps of a rendering in its context: loop iterations, calls, and characters and items that are read or copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from tasks.runtime.bounded_jinja.sizes import VALUES, require_size, require_text, weigh

MAX_STEPS = 1_000_000
"""The limit for one rendering: a conversation of a thousand turns takes some thousands."""
STEPS_PER_CALL = 8
CHARACTERS_PER_STEP = 256
"""Concatenated text is copied, so it counts as steps."""
CHARACTERS_PER_SLOW_STEP = 8
ITEMS_PER_STEP = 16
_SLOW = frozenset({"title", "urlize", "wordwrap", "wordcount", "striptags", "list", "split", "rsplit", "splitlines", "translate",
                   "pprint", "xmlattr", "urlencode", "tojson", "capitalize", "swapcase", "casefold", "partition"})  # fmt: skip
"""Functions whose time or output is much larger than their input."""
_STEPS_PER_ITEM = dict.fromkeys(("map", "select", "reject", "selectattr", "rejectattr", "sort", "unique"), 2)
_STEPS_PER_ITEM["groupby"] = 8
"""Of filters that call a filter or a test, or read an attribute, for each item."""
_DEEP = frozenset({"tojson", "pprint", "string", "join", "sort", "unique", "groupby", "min", "max", "sum", "format", "dictsort",
                   "xmlattr", "urlencode", "in", "eq", "==", "equalto", "ne", "!=", "lt", "<", "le", "<=", "gt", ">", "ge", ">=",
                   "lessthan", "greaterthan", "count", "index", "escape", "e", "forceescape", "format_map", "center", "upper",
                   "lower", "title", "trim", "capitalize", "replace", "indent", "wordwrap", "wordcount", "truncate"})  # fmt: skip
"""Functions that read or write the items of nested lists."""


@pass_context
def step(context: Context, steps: int = 1) -> None:
    taken = getattr(context, "strop_steps", 0) + steps
    context.strop_steps = taken  # type: ignore[attr-defined]
    if taken > MAX_STEPS:
        raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")


def begin(context: Context) -> None:
    """Resets the count, in a context that is reused."""
    context.strop_steps = 0  # type: ignore[attr-defined]


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any] | Iterable[Any]:
    # a sized value stays sized: a loop may read its length
    if isinstance(values, Sized):
        step(context, len(values))
        return values
    return _counting(context, values)


def _counting(context: Context, values: Iterable[Any], steps: int = 1) -> Iterator[Any]:
    for value in values:
        step(context, steps)
        yield value


@pass_context
def _joined(context: Context, parts: list[Any]) -> str:
    weigh(parts)
    texts = [str(part) for part in parts]
    size = sum(map(len, texts))
    require_size("", size)
    step(context, size // CHARACTERS_PER_STEP)
    return "".join(texts)


def bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    first = {
        "context": lambda context: (context,),
        "eval_context": lambda context: (context.eval_ctx,),
        "environment": lambda context: (context.environment,),
    }.get(getattr(getattr(filter_, "jinja_pass_arg", None), "name", ""), lambda context: ())

    @pass_context
    def bounded(context: Context, *arguments: Any, **options: Any) -> Any:
        only = arguments[0] if len(arguments) == 1 and not options else None
        if type(only) is str and len(only) < CHARACTERS_PER_STEP:
            return filter_(*first(context), only)  # the common case: nothing to count
        charge(context, name, (*arguments, *options.values()))
        if arguments and isinstance(arguments[0], Iterator):  # the lazy output of another filter
            arguments = (_counting(context, arguments[0], _STEPS_PER_ITEM.get(name, 1)), *arguments[1:])
        texts = [argument for argument in arguments if isinstance(argument, str)]
        require_text(texts[0] if texts else "", name, arguments, options)
        return filter_(*first(context), *arguments, **options)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    return bounded


def charge(context: Context, name: str, values: tuple[Any, ...]) -> None:
    """Counts the input of a filter, test or method as steps. Raises SecurityError if it is too large."""
    steps = 0
    for value in values:
        if isinstance(value, (str, bytes)):
            per_step = 1 if name == "wordwrap" else CHARACTERS_PER_SLOW_STEP if name in _SLOW else CHARACTERS_PER_STEP
            steps += len(value) // per_step
        elif name in _DEEP:
            steps += steps_of(value)
        elif isinstance(value, Sized):
            steps += len(value) // ITEMS_PER_STEP
        elif isinstance(value, int) and name in ("slice", "batch"):
            steps += abs(value)
        if name in _STEPS_PER_ITEM and isinstance(value, Sized) and not isinstance(value, str):
            steps += len(value) * _STEPS_PER_ITEM[name]
    if name == "join" and len(values) > 1:
        many, between = (values[1], values[0]) if isinstance(values[0], str) else (values[0], values[1])
        if isinstance(many, Sized) and isinstance(between, (str, bytes)):
            require_size("", len(many) * len(between))
    if steps:
        step(context, steps)


def steps_of(value: Any) -> int:
    characters, items = weigh(value)
    return characters // CHARACTERS_PER_STEP + items


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    """Counts the cost of reading the value, and returns it."""
    if isinstance(value, (str, bytes)):
        step(context, len(value) // CHARACTERS_PER_STEP)
    elif isinstance(value, range):
        step(context, len(value) // ITEMS_PER_STEP)
    elif isinstance(value, VALUES):
        step(context, steps_of(value))
    return value


@pass_context
def count_output(context: Context, value: Any) -> Any:
    """Counts the cost of writing the value, and returns it."""
    if isinstance(value, str):
        if len(value) > CHARACTERS_PER_STEP:
            step(context, len(value) // CHARACTERS_PER_STEP)
    elif isinstance(value, (list, tuple, dict)):
        step(context, steps_of(value))
    return value


FILTERS = {"strop_counted": _counted, "strop_joined": _joined, "strop_weighed": _weighed, "strop_stepped": step}
"""By their names in a rewritten template (rewriting.py)."""
