"""Steps of a rendering: turns of loops, calls, and text and items that are looked through or copied, counted in its context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from jinja2 import pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from tasks.runtime.bounded_jinja.sizes import VALUES, require_size, require_text, weigh

MOST_STEPS = 1_000_000
"""Turns of loops and calls in one rendering: a dialogue of a thousand turns takes some thousands."""
STEPS_A_CALL = 8
CHARACTERS_A_STEP = 256
"""Text that is put together counts as steps, too: it is copied."""
CHARACTERS_A_SLOW_STEP = 8
ITEMS_A_STEP = 16
_SLOW = frozenset({"title", "urlize", "wordwrap", "wordcount", "striptags", "list", "split", "rsplit", "splitlines", "translate",
                   "pprint", "xmlattr", "urlencode", "tojson", "capitalize", "swapcase", "casefold", "partition"})  # fmt: skip
"""What takes, or makes, much more of a text than it is long."""
_STEPS_AN_ITEM = {
    "map": 2,
    "select": 2,
    "reject": 2,
    "selectattr": 2,
    "rejectattr": 2,
    "sort": 2,
    "unique": 2,
    "groupby": 8,
}
"""Of what calls a filter or a test, or looks an attribute up, for each item."""
_DEEP = frozenset({"tojson", "pprint", "string", "join", "sort", "unique", "groupby", "min", "max", "sum", "format", "dictsort",
                   "xmlattr", "urlencode", "in", "eq", "==", "equalto", "ne", "!=", "lt", "<", "le", "<=", "gt", ">", "ge", ">=",
                   "lessthan", "greaterthan", "count", "index", "escape", "e", "forceescape", "format_map", "center", "upper",
                   "lower", "title", "trim", "capitalize", "replace", "indent", "wordwrap", "wordcount", "truncate"})  # fmt: skip
"""What looks at, or writes, what is within lists."""


@pass_context
def step(context: Context, steps: int = 1) -> None:
    taken = getattr(context, "strop_steps", 0) + steps
    context.strop_steps = taken  # type: ignore[attr-defined]
    if taken > MOST_STEPS:
        raise SecurityError(f"it takes more than {MOST_STEPS:,} steps")


def begin(context: Context) -> None:
    """Counts anew, in a context that is used again."""
    context.strop_steps = 0  # type: ignore[attr-defined]


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any] | Iterable[Any]:
    # what has a length keeps it: a loop may ask for it
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
    step(context, size // CHARACTERS_A_STEP)
    return "".join(texts)


def bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    first = {
        "context": lambda context: (context,),
        "eval_context": lambda context: (context.eval_ctx,),
        "environment": lambda context: (context.environment,),
    }.get(getattr(getattr(filter_, "jinja_pass_arg", None), "name", ""), lambda context: ())

    @pass_context
    def bounded(context: Context, *arguments: Any, **named: Any) -> Any:
        if len(arguments) == 1 and not named and type(arguments[0]) is str and len(arguments[0]) < CHARACTERS_A_STEP:
            return filter_(*first(context), arguments[0])  # the rule: nothing to count
        charge(context, name, (*arguments, *named.values()))
        if arguments and isinstance(arguments[0], Iterator):  # what another filter makes one by one
            arguments = (_counting(context, arguments[0], _STEPS_AN_ITEM.get(name, 1)), *arguments[1:])
        texts = [each for each in arguments if isinstance(each, str)]
        require_text(texts[0] if texts else "", name, arguments, named)
        return filter_(*first(context), *arguments, **named)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    return bounded


def charge(context: Context, name: str, given: tuple[Any, ...]) -> None:
    """Counts what a filter, a test or a method works on as steps. Raises SecurityError where it is too much at once."""
    steps = 0
    for value in given:
        if isinstance(value, (str, bytes)):
            a_step = 1 if name == "wordwrap" else CHARACTERS_A_SLOW_STEP if name in _SLOW else CHARACTERS_A_STEP
            steps += len(value) // a_step
        elif name in _DEEP:
            steps += steps_through(value)
        elif isinstance(value, Sized):
            steps += len(value) // ITEMS_A_STEP
        elif isinstance(value, int) and name in ("slice", "batch"):
            steps += abs(value)
        if name in _STEPS_AN_ITEM and isinstance(value, Sized) and not isinstance(value, str):
            steps += len(value) * _STEPS_AN_ITEM[name]
    if name == "join" and len(given) > 1:
        many, between = (given[1], given[0]) if isinstance(given[0], str) else (given[0], given[1])
        if isinstance(many, Sized) and isinstance(between, (str, bytes)):
            require_size("", len(many) * len(between))
    if steps:
        step(context, steps)


def steps_through(value: Any) -> int:
    characters, items = weigh(value)
    return characters // CHARACTERS_A_STEP + items


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    """The value, after what it costs to look through it was counted."""
    if isinstance(value, (str, bytes)):
        step(context, len(value) // CHARACTERS_A_STEP)
    elif isinstance(value, range):
        step(context, len(value) // ITEMS_A_STEP)
    elif isinstance(value, VALUES):
        step(context, steps_through(value))
    return value


@pass_context
def written(context: Context, value: Any) -> Any:
    """The value, which is about to be written."""
    if isinstance(value, str):
        if len(value) > CHARACTERS_A_STEP:
            step(context, len(value) // CHARACTERS_A_STEP)
    elif isinstance(value, (list, tuple, dict)):
        step(context, steps_through(value))
    return value


FILTERS = {"strop_counted": _counted, "strop_joined": _joined, "strop_weighed": _weighed, "strop_stepped": step}
"""By the names that a rewritten template (rewriting.py) calls them."""
