"""The environment that renders: Jinja's sandbox, with every step counted and every text measured before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from functools import lru_cache
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.runtime.bounded_jinja.rewriting import count_steps
from tasks.runtime.bounded_jinja.sizes import (
    MOST_CHARACTERS,
    MOST_WIDTH,
    WIDE_PERCENT,
    is_small,
    require_filled,
    require_product,
    require_size,
    require_text,
)
from tasks.runtime.bounded_jinja.steps import (
    CHARACTERS_A_STEP,
    FILTERS,
    STEPS_A_CALL,
    bounded,
    charge,
    step,
    steps_through,
    written,
)

MOST_SOURCE = 128 * 1024
"""Of a template itself: Jinja's compiler takes time in proportion to the square of the macros in it."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which also ends what takes too long or grows too large, with a SecurityError."""

    intercepted_binops = frozenset(["*", "**", "+", "%"])

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.bound()

    def bound(self) -> None:
        """Replaces what makes texts of any length."""
        self.globals.pop("lipsum", None)
        self.filters |= FILTERS
        known: dict[str, Callable[..., Any]]
        for known in (self.filters, self.tests):  # type: ignore[assignment]
            for name, function in known.items():
                if not name.startswith("strop_") and not getattr(function, "is_bounded", False):
                    known[name] = bounded(name, function)
        self.finalize = written

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MOST_SOURCE:
            raise SecurityError(f"a template of {len(source):,} characters; at most {MOST_SOURCE:,} are read")
        try:
            tree = super()._parse(source, name, filename)
        except RecursionError:
            raise SecurityError("it is nested too deeply") from None
        count_steps(tree)
        return tree

    def _compile(self, source: str, filename: str) -> Any:
        try:
            return super()._compile(source, filename)
        except SyntaxError:  # Python's own bound
            raise SecurityError("its loops are nested too deeply") from None

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            if not (is_small(left, 10**6) and is_small(right, 64)):
                raise SecurityError("a power of large numbers")
        elif operator == "*":
            require_product(left, right)
        elif operator == "%":
            if isinstance(left, str):
                if WIDE_PERCENT.search(left):
                    raise SecurityError(f"a text of more than {MOST_WIDTH:,} characters by %")
                require_filled(left, [right])
        elif isinstance(left, Sized) and isinstance(right, Sized):
            require_size(left, len(left) + len(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, (str, list)):
            step(context, len(result) // CHARACTERS_A_STEP)
        return result

    def call(__self, __context: Context, __obj: Any, *arguments: Any, **named: Any) -> Any:
        step(__context, STEPS_A_CALL)
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, LoopContext) and arguments and isinstance(arguments[0], Sized):  # a loop within itself
            step(__context, len(arguments[0]))
        for argument in arguments:
            if isinstance(argument, tuple):
                step(__context, steps_through(argument))
        if isinstance(owner, (str, bytes, list, tuple, dict)):
            name = getattr(__obj, "__name__", "")
            charge(__context, name, (owner, *arguments, *named.values()))
            if isinstance(owner, (str, bytes)):
                require_text(owner, name, arguments, named)
        return super().call(__context, __obj, *arguments, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def measured(*arguments: Any, **named: Any) -> str:
            require_text(str(value.__self__), "format", arguments, named)
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
