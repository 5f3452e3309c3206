"""Jinja that somebody else wrote (a template of a family, of a recipe, a model's own chat template), in bounded time and memory.

Jinja's sandbox keeps a template from the machine, not from its time: loops within loops, texts doubled again and again, and
`'x' * 10**9` it lets through. Here each turn of a loop and each call is counted, and each text is measured before it is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, ItemsView, Iterable, Iterator, Sized, ValuesView
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
MOST_SOURCE = 128 * 1024
"""Of a template itself: Jinja's compiler takes time in proportion to the square of the macros in it."""
MOST_ITEMS = 1_000_000
"""Of one list that is made of others."""
MOST_WIDTH = 1_000_000
STEPS_A_CALL = 8
NODES_A_STEP = 4
"""What stands within a loop or macro is done anew in each turn or call: of a long body each costs more."""
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
_LISTS = (list, tuple, set, frozenset, ValuesView, ItemsView)
_VALUES = (*_LISTS, dict)
_WIDTH_BY_VALUE = re.compile(r"\{[^{}]*\{")
_LONG_NUMBER = re.compile(r"[0-9]{3,7}")
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
        self.filters |= {
            "strop_counted": _counted,
            "strop_joined": _joined,
            "strop_weighed": _weighed,
            "strop_stepped": _step,
        }
        known: dict[str, Callable[..., Any]]
        for known in (self.filters, self.tests):  # type: ignore[assignment]
            for name, function in known.items():
                if not name.startswith("strop_") and not getattr(function, "is_bounded", False):
                    known[name] = _bounded(name, function)
        self.finalize = _written

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MOST_SOURCE:
            raise SecurityError(f"a template of {len(source):,} characters; at most {MOST_SOURCE:,} are read")
        try:
            tree = super()._parse(source, name, filename)
        except RecursionError:
            raise SecurityError("it is nested too deeply") from None
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
        return tree

    def _compile(self, source: str, filename: str) -> Any:
        try:
            return super()._compile(source, filename)
        except SyntaxError:  # Python's own bound
            raise SecurityError("its loops are nested too deeply") from None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            if not (_is_small(left, 10**6) and _is_small(right, 64)):
                raise SecurityError("a power of large numbers")
        elif operator == "*":
            _require_product(left, right)
        elif operator == "%":
            if isinstance(left, str):
                if _WIDE_PERCENT.search(left):
                    raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by %")
                _require_filled(left, [right])
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
        for argument in arguments:
            if isinstance(argument, tuple):
                _step(__context, _steps_through(argument))
        if isinstance(owner, (str, bytes, list, tuple, dict)):
            name = getattr(__obj, "__name__", "")
            _charge(__context, name, (owner, *arguments, *named.values()))
            if isinstance(owner, (str, bytes)):
                _require_text(owner, name, arguments, named)
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


def _counting(context: Context, values: Iterable[Any], steps: int = 1) -> Iterator[Any]:
    for value in values:
        _step(context, steps)
        yield value


@pass_context
def _joined(context: Context, parts: list[Any]) -> str:
    _weigh(parts)
    texts = [str(part) for part in parts]
    size = sum(map(len, texts))
    _require_size("", size)
    _step(context, size // CHARACTERS_A_STEP)
    return "".join(texts)


@pass_context
def _step(context: Context, steps: int = 1) -> None:
    taken = getattr(context, "strop_steps", 0) + steps
    context.strop_steps = taken  # type: ignore[attr-defined]
    if taken > MOST_STEPS:
        raise SecurityError(f"it takes more than {MOST_STEPS:,} steps")


def _bounded(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    first = {
        "context": lambda context: (context,),
        "eval_context": lambda context: (context.eval_ctx,),
        "environment": lambda context: (context.environment,),
    }.get(getattr(getattr(filter_, "jinja_pass_arg", None), "name", ""), lambda context: ())

    @pass_context
    def bounded(context: Context, *arguments: Any, **named: Any) -> Any:
        if len(arguments) == 1 and not named and type(arguments[0]) is str and len(arguments[0]) < CHARACTERS_A_STEP:
            return filter_(*first(context), arguments[0])  # the rule: nothing to count
        _charge(context, name, (*arguments, *named.values()))
        if arguments and isinstance(arguments[0], Iterator):  # what another filter makes one by one
            arguments = (_counting(context, arguments[0], _STEPS_AN_ITEM.get(name, 1)), *arguments[1:])
        texts = [each for each in arguments if isinstance(each, str)]
        _require_text(texts[0] if texts else "", name, arguments, named)
        return filter_(*first(context), *arguments, **named)

    bounded.is_bounded = True  # type: ignore[attr-defined]
    return bounded


def _charge(context: Context, name: str, given: tuple[Any, ...]) -> None:
    """Counts what a filter, a test or a method works on as steps. Raises SecurityError where it is too much at once."""
    steps = 0
    for value in given:
        if isinstance(value, (str, bytes)):
            a_step = 1 if name == "wordwrap" else CHARACTERS_A_SLOW_STEP if name in _SLOW else CHARACTERS_A_STEP
            steps += len(value) // a_step
        elif name in _DEEP:
            steps += _steps_through(value)
        elif isinstance(value, Sized):
            steps += len(value) // ITEMS_A_STEP
        elif isinstance(value, int) and name in ("slice", "batch"):
            steps += abs(value)
        if name in _STEPS_AN_ITEM and isinstance(value, Sized) and not isinstance(value, str):
            steps += len(value) * _STEPS_AN_ITEM[name]
    if name == "join" and len(given) > 1:
        many, between = (given[1], given[0]) if isinstance(given[0], str) else (given[0], given[1])
        if isinstance(many, Sized) and isinstance(between, (str, bytes)):
            _require_size("", len(many) * len(between))
    if steps:
        _step(context, steps)


def _steps_through(value: Any) -> int:
    characters, items = _weigh(value)
    return characters // CHARACTERS_A_STEP + items


def _weigh(value: Any) -> tuple[int, int]:
    """The characters and the items that a value comes to when it is written, each part as often as it stands there.

    Raises:
        SecurityError: more than may be made at once.
    """
    characters = items = 0
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, (str, bytes)):
            characters += len(each)
        elif isinstance(each, _LISTS):
            items += len(each)
            _require_size([], items)
            waiting.extend(each)
        elif isinstance(each, dict):
            items += len(each)
            _require_size([], items)
            waiting.extend(each)
            waiting.extend(each.values())
        characters += 1
        _require_size("", characters)
    return characters, items


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    """The value, after what it costs to look through it was counted."""
    if isinstance(value, (str, bytes)):
        _step(context, len(value) // CHARACTERS_A_STEP)
    elif isinstance(value, range):
        _step(context, len(value) // ITEMS_A_STEP)
    elif isinstance(value, _VALUES):
        _step(context, _steps_through(value))
    return value


@pass_context
def _written(context: Context, value: Any) -> Any:
    """The value, which is about to be written."""
    if isinstance(value, str):
        if len(value) > CHARACTERS_A_STEP:
            _step(context, len(value) // CHARACTERS_A_STEP)
    elif isinstance(value, (list, tuple, dict)):
        _step(context, _steps_through(value))
    return value


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
        _require_filled(str(owner), [each for each in given if each is not owner])
    elif name == "tojson":
        if not all(_is_small(each, 64) for each in given if isinstance(each, int)):
            raise SecurityError("an indentation of more than 64 characters by tojson")
    elif name == "translate":
        table = [each for mapping in given if isinstance(mapping, dict) for each in mapping.values()]
        _require_size("", len(owner) * max((len(each) for each in table if isinstance(each, str)), default=1))
    elif name == "replace":
        texts = [each for each in given if isinstance(each, (str, bytes))]
        longest = max(map(len, texts), default=0)
        shortest = max(min(map(len, texts), default=1), 1)
        _require_size("", len(owner) + (len(owner) // shortest + 1) * longest if longest > 64 else 0)


def _require_filled(text: str, values: list[Any]) -> None:
    """Measures what a text with places for values comes to, at most."""
    is_number_a_width = _WIDTH_BY_VALUE.search(text) is not None
    widest = 0
    for value in values:
        if is_number_a_width and (isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal())):
            _require_size("", len(str(value)) * MOST_WIDTH if len(str(value)) > 8 else abs(int(value)))
            widest = max(widest, abs(int(value)))
        widest = max(widest, _weigh(value)[0])
    places = text.count("{") + text.count("%")
    _require_size("", len(text) + places * widest + sum(map(int, _LONG_NUMBER.findall(text))))


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
