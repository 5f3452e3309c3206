"""Templates that would run endlessly or fill the memory end soon, with one line; ordinary templates are not affected."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tasks.base.load import load_tokenizer
from tasks.errors import ConfigError
from tasks.prompts.templates.chat_template import ChatFormat
from tasks.prompts.templates.conversation import Conversation
from tasks.prompts.templates.fill_template import write_question
from tasks.prompts.templates.templates import read_templates
from tasks.runtime.bounded_jinja.environment import BoundedEnvironment

ENDLESS = {
    "loops within loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a product": "{{ 'x' * 10**9 }}",
    "a product of a field": "{{ text * 10000000000 }}",
    "a list": "{{ [1] * 10**9 }}",
    "a power": "{{ 9**9**9 }}",
    "doubled by +": "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "doubled by ~": "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "doubled lists": "{% set n = namespace(t=[1]) %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}",
    "a width": "{{ 'x'.ljust(10**10) }}",
    "a filter's width": "{{ 'x'|center(10000000000) }}",
    "a format's width": "{{ '%9999999999d' % 1 }}",
    "a format's own width": "{{ '{:9999999999}'.format(1) }}",
    "a format's width in its values": "{{ '{:{}}'.format(1, 9999999999) }}",
    "replaced": "{{ (text * 9000).replace('a', text * 9000) }}",
    "an indentation": "{{ ('\n' * 100000)|indent(1000000) }}",
    "what is written": "{% for i in range(99999) %}{{ text * 1000 }}{% endfor %}",
    "calls that call": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a loop within itself": "{% for x in [1] recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "slices": "{{ 'ab'|slice(100000000)|list }}",
    "a joint": "{{ range(90000)|join(text * 60000) }}",
    "joint parts": "{{ (['a' * 1000000] * 1000)|join|length }}",
    "written as JSON": "{{ ([['a' * 1000] * 1000] * 1000)|tojson }}",
    "an indentation of JSON": "{{ [[[1]]]|tojson(indent=100000000) }}",
    "shared lists": "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "shared lists as text": "{% set n = namespace(x=1) %}"
        "{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x|string }}",
    "shared lists compared": "{% set n = namespace(x=1, y=1) %}"
        "{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
    "words": "{{ (text * 30000)|title|length }}",
    "lines": "{{ ('a ' * 3000000)|wordwrap(1)|length }}",
    "looked through again and again": "{% set a = text * 60000 %}{% for i in range(90000) %}{{ 'b' in a }}{% endfor %}",
    "compared again and again": "{% set a = text * 60000 %}{% set b = a ~ '' %}{% for i in range(90000) %}{{ a == b }}{% endfor %}",
    "filtered again and again": "{% set a = text * 60000 %}{% for i in range(90000) %}{{ a|upper|length }}{% endfor %}",
    "tested again and again": "{% set a = text * 60000 %}{% for i in range(90000) %}{{ a is upper }}{% endfor %}",
    "cut again and again": "{% set a = text * 60000 %}{% for i in range(90000) %}{{ a[1:]|length }}{% endfor %}",
    "a list looked through": "{% set a = range(99999)|list %}{% for i in range(90000) %}{{ 'b' in a }}{% endfor %}",
    "a long body of a loop": "{% for i in range(99999) %}" + "{% set a = i * i %}" * 1000 + "{% endfor %}",
    "a long body of a loop within itself": "{% for i in [1] recursive %}" + "{% set a = i * i %}" * 1000
        + "{% if loop.depth < 900 %}{{ loop(range(99)) }}{% endif %}{% endfor %}",
    "a long body of a macro": "{% macro f(i) %}" + "{% set a = i * i %}" * 1000 + "{% endmacro %}"
        "{% for i in range(90000) %}{{ f(i) }}{% endfor %}",
    "a long body of a call": "{% macro f() %}{% for i in range(90000) %}{{ caller() }}{% endfor %}{% endmacro %}"
        "{% call f() %}" + "{% set a = 7 * text %}" * 1000 + "{% endcall %}",
    "maps again and again": "{% set a = range(99999)|list %}"
        "{% for i in range(9999) %}{{ a|map('string')|list|length }}{% endfor %}",
    "maps of maps": "{{ range(99999)|" + "map('string')|" * 90 + "list|length }}",
    "grouped again and again": "{% set a = range(99999)|list %}{% for i in range(99) %}{{ a|groupby('real')|length }}{% endfor %}",
    "a range looked through": "{% for i in range(90000) %}{{ 'b' in range(99999) }}{% endfor %}",
    "values looked through": "{% set a = dict.fromkeys(range(99999), 'a') %}"
        "{% for i in range(90000) %}{{ 'b' in a.values() }}{% endfor %}",
    "shared tuples as a key": "{% set n = namespace(x=1) %}"
        "{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1}|length }}",
    "shared tuples looked up": "{% set n = namespace(x=1) %}"
        "{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {1: 2}[n.x] }}",
    "shared tuples as keys": "{% set n = namespace(x=1) %}"
        "{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {1: 2}.get(n.x) }}",
    "many macros": "{% macro f() %}{% endmacro %}" * 20000,
    "deep loops": "{% for i in [1] %}" * 60 + "{% endfor %}" * 60,
    "a map": "{{ ([text * 60000] * 900000)|map('upper')|map('length')|sum }}",
    "wide formats": "{{ ('{0:999999}' * 1000).format(1)|length }}",
    "translated": "{{ (text * 60000).translate({97: 'b' * 60000})|length }}",
    "calls without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}  # fmt: skip


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_a_template_without_end_ends_in_seconds_with_an_error(source: str) -> None:
    environment = BoundedEnvironment(undefined=StrictUndefined)
    start = time.process_time()
    with pytest.raises((SecurityError, TemplateError, RecursionError)) as caught:
        environment.from_string(source).render(text="a" * 1000)
    assert time.process_time() - start < 5
    assert "\n" not in str(caught.value)


SOUND = [
    "{{ text }} and {{ other }}",
    "{% for m in items %}{{ loop.index }}/{{ loop.length }} {{ m }}{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}",
    "{% for m in items|reverse if m %}{{ loop.revindex0 }}{{ m ~ text ~ loop.previtem }}{% endfor %}",
    "{% for k, v in table.items() %}{{ k + ': ' + v }}{{ '\n' }}{% endfor %}",
    "{{ '%s of **%d**' % (text, 3) }} {{ '{:>5}|{:*^9}'.format('a', 'b') }} {{ text.replace('a', 'bb')|indent(2)|center(30) }}",
    "{% macro f(x) %}<{{ x * 3 }}>{% endmacro %}{{ f('a') }}{{ 2 ** 10 + 7 % 4 }}{{ items|map('upper')|join('+') }}",
    "{% set n = namespace(t='') %}{% for i in range(5) %}{% set n.t = n.t ~ i %}{% endfor %}{{ n.t }}",
    "{% for x in nested recursive %}{{ x.a }}{% if x.b %}({{ loop(x.b) }}){% endif %}{% endfor %}",
    "{{ '%d of %d' % (1700000000, 5) }} {{ '%s' % text }}",
    "{{ ('{} ' * 70).format(*([900000] * 70)) }} {{ '{:{}}|'.format(text, 9) }}",
    "{{ items|sort|join(', ') }} {{ nested|map(attribute='a')|list }}",
    "{{ items|select('in', ['one', text])|list }} {{ table|tojson(indent=2) }}",
    "{{ items[1:]|length }} {{ text[::-1] }} {{ text == other }}",
    "{{ text in items }} {{ items is iterable }} {{ nested|groupby('a')|length }}",
    "{{ items|batch(3, '-')|list }} {{ items|slice(2)|list }} {{ table|dictsort }}",
    "{{ nested }} {{ items|unique|list }} {{ '<b>'|escape }}",
]  # fmt: skip


@pytest.mark.parametrize("source", SOUND)
def test_other_templates_write_what_jinja_writes(source: str) -> None:
    values: dict[str, Any] = {
        "text": "a cat", "other": "中文", "items": ["one", "two", "", "three"], "table": {"a": "1", "b": "2"},
        "nested": [{"a": 1, "b": [{"a": 2, "b": []}]}, {"a": 3, "b": []}],
    }  # fmt: skip
    plain = ImmutableSandboxedEnvironment(keep_trailing_newline=True).from_string(source).render(values)
    assert BoundedEnvironment(keep_trailing_newline=True).from_string(source).render(values) == plain


def test_a_familys_template_without_end_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "qa.yaml").write_text(
        "kind: qa\ntemplates:\n- id: endless\n  language: en\n  user: '{% for a in range(99999) %}{% for b in range(99999) %}"
        "{{ input }}{% endfor %}{% endfor %}'\n"
    )
    template = read_templates(tmp_path)["qa"].templates[0]
    row = dict.fromkeys(("instruction", "input", "output", "system"), "x") | {
        "row_id": "0" * 32,
        "family": "qa",
        "language": "en",
    }
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"template endless: it (takes|writes) more than") as caught:
            write_question(template, row)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["loops within loops", "a product", "doubled by ~", "calls without end", "what is written"]
)
def test_a_models_own_chat_template_is_bounded_too(name: str, tiny_llama: Path) -> None:
    tokenizer = load_tokenizer(tiny_llama)
    tokenizer.chat_template = "{% set text = messages[0].content %}" + ENDLESS[name]
    start = time.process_time()
    with pytest.raises(ConfigError, match="the chat template raises an error") as caught:
        ChatFormat(tokenizer).text(Conversation([]), [{"role": "user", "content": "a" * 1000}])
    assert time.process_time() - start < 5
    assert "\n" not in str(caught.value)


def test_chat_templates_write_what_transformers_writes(tiny_llama: Path) -> None:
    from transformers.utils import chat_template_utils

    from tasks import paths

    load_tokenizer(tiny_llama)
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u 中"},
        {"role": "assistant", "content": "a"},
    ]
    for path in sorted((Path(__file__).parents[2] / paths.CHAT_TEMPLATES).glob("*.jinja")):
        source = path.read_text()
        ours = chat_template_utils._compile_jinja_template(source)
        theirs = chat_template_utils._cached_compile_jinja_template(source)
        assert isinstance(ours.environment, BoundedEnvironment)
        for count in (2, 3):
            values = {
                "messages": messages[3 - count :],
                "add_generation_prompt": count == 2,
                "bos_token": "<s>",
                "eos_token": "</s>",
            }
            assert written(ours, values) == written(theirs, values)


def written(template: Any, values: dict[str, Any]) -> str:
    """What it writes, or why it refuses."""
    try:
        return str(template.render(values))
    except TemplateError as error:
        return f"refused: {error}"
