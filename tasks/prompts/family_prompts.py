"""Fields of a task family → the prompt that a version was trained on, and what reads its answer.

prompts = FamilyPrompts(tokenizer, read_json(folder / "templates.json"), context_tokens=2048)
prompt = prompts.of("topic", {"text": "The match ended 2:1."})
prompt.ids, prompt.template, prompt.reader

The same functions render rows (tokens.py): what differs, because a request has no answer, is in
docs/decisions/0040-one-rendering.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tasks.prompts.chat_prompts import Prompt, Prompts
from tasks.prompts.label_text import label_text
from tasks.prompts.needed_fields import needed_fields
from tasks.prompts.request_fields import ALIASES, RequestError, language_of, request_fields
from tasks.prompts.templates.conversation import INPUT, make_context
from tasks.prompts.templates.templates import FamilyTemplates, InstructionTemplate, parse_family
from tasks.prompts.tokens.tokens import Dropped, Renderer
from tasks.prompts.tokens.truncate import shorten
from tasks.prompts.tokens.word_cache import WordTable
from tasks.runtime.files import content_digest
from tasks.scoring.read_answer import AnswerReader, opens_thought

Fields = Mapping[str, Any]
CHOOSES_TEMPLATE = ("system", "history", "instruction", "input", "tools")
"""The fields whose digest chooses the template of a request without one."""
NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class FamilyPrompt:
    ids: list[int]
    """The prompt; of a reward model, the prompt and the answer to score."""
    text: str
    template: str
    """Its id; "" where the form of the model has no templates."""
    reader: AnswerReader
    is_shortened: bool = False


class FamilyPrompts:
    """The prompts of one version.

    Args:
        document: its templates.json, as `render` writes it.
        context_tokens: the context of the model; None: no limit.
    """

    def __init__(self, tokenizer: Any, document: Mapping[str, Any], context_tokens: int | None = None) -> None:
        self.tokenizer, self.context_tokens = tokenizer, context_tokens
        self.form = str(document.get("form", "answers"))
        self.max_length_tokens = int(document.get("max_length_tokens", NO_LIMIT))
        self.families = {name: parse_family(name, entry) for name, entry in document["families"].items()}
        self.prompts = Prompts(tokenizer, thinks=bool(document.get("thinking")))

    def of(
        self,
        family: str,
        fields: Fields,
        template: str | None = None,
        *,
        thinks: bool | None = None,
        answer_tokens: int = 0,
        shortens: bool = False,
    ) -> FamilyPrompt:
        """The prompt of a user's fields (request_fields.py).

        Args:
            template: the id of the template; None: chosen among those of the request's language by a digest of its fields.
            thinks: whether the answer may begin with a thought; None: as most answers in training.
            answer_tokens: the most tokens of the answer, for which the context has room.
            shortens: shorten a prompt that is longer than the examples of the training, or than the context: first the oldest
                turns, then the end of the input.

        Raises:
            RequestError: a family, template or field is unknown or missing, or the prompt is too long.
            ConfigError: the chat template rejects the turns.
        """
        templates, request = self._templates(family), request_fields(fields)
        if self.form == "labels":
            return self._of_label(templates, request, shortens)
        if self.form == "texts":
            return self._of_text(templates, request, answer_tokens)
        chosen = _template_named(templates, template) if template is not None else None
        request |= {"family": family, "language": language_of(request, chosen.language if chosen else "en")}
        chosen = chosen or templates.choose({**request, "row_id": _digest_of(request), "output": ""})
        _require_fields(chosen, fields, request)
        if self.form == "ranked":
            return self._of_answer(templates, request, chosen, shortens)
        prompt, is_shortened = self._fitting(request, chosen, thinks, answer_tokens, shortens)
        may_call = bool(request["tools"]) or '"tool_call"' in request["history"]
        reader = AnswerReader(templates.kind, chosen.frame, opens_thought(prompt.text), may_call)
        return FamilyPrompt(prompt.ids, prompt.text, chosen.id, reader, is_shortened)

    def _templates(self, family: str) -> FamilyTemplates:
        if family not in self.families:
            known = f"It was trained on {', '.join(self.families) or 'none'}"
            raise RequestError("unknown_family", f"the version has no family {family}", fix=known)
        return self.families[family]

    def _of_context(self, request: Fields, template: InstructionTemplate, thinks: bool | None) -> Prompt:
        context = self.prompts.chat.adapt_context(make_context(template, {**request, "row_id": "of the request"}))
        return self.prompts.of_context(context, thinks)

    def _fitting(
        self, request: dict[str, Any], template: InstructionTemplate, thinks: bool | None, answer: int, shortens: bool
    ) -> tuple[Prompt, bool]:
        """The prompt, and whether it was shortened to fit."""
        room = NO_LIMIT if self.context_tokens is None else self.context_tokens - answer
        prompt = self._of_context(request, template, thinks)
        if not shortens:
            self._require_room(len(prompt.ids), answer)
            return prompt, False
        room, tokens, shortened = min(room, self.max_length_tokens), len(prompt.ids), request
        while len(prompt.ids) > room:
            row = {**shortened, INPUT: shortened.get(INPUT, "")}
            (shorter,) = shorten([row], [len(prompt.ids) - room], self._words) if room > 0 else (None,)
            if shorter is None:
                raise self._too_long(tokens, answer)
            shortened = shorter if INPUT in request else {name: shorter[name] for name in request}
            prompt = self._of_context(shortened, template, thinks)
        return prompt, shortened is not request

    def _of_label(self, templates: FamilyTemplates, request: Fields, shortens: bool) -> FamilyPrompt:
        """The text that a classification head gets."""
        from tasks.base.heads import text_ids

        text = label_text(request)
        if not text:
            raise _missing((INPUT,))
        longest = self.max_length_tokens if shortens else NO_LIMIT
        ((ids, is_cut),) = text_ids(self.tokenizer, [text], longest)
        if is_cut and not shortens:
            raise self._too_long(len(ids), 0)
        self._require_room(len(ids), 0)
        return FamilyPrompt(ids, text, "", AnswerReader(templates.kind), is_cut)

    def _of_text(self, templates: FamilyTemplates, request: Fields, answer_tokens: int) -> FamilyPrompt:
        """The beginning of a text that is to be continued."""
        text = request["instruction"] + request.get(INPUT, "")
        ids = self.prompts.of_text(text)
        if not ids:
            raise _missing((INPUT,))
        self._require_room(len(ids), answer_tokens)
        return FamilyPrompt(ids, text, "", AnswerReader(templates.kind))

    def _of_answer(
        self, templates: FamilyTemplates, request: Fields, template: InstructionTemplate, shortens: bool
    ) -> FamilyPrompt:
        """Prompt and answer, for a reward model."""
        if "output" not in request:
            raise _missing(("output",))
        row = {INPUT: "", **request, "row_id": "of the request"}
        renderer = Renderer(self.tokenizer, self.max_length_tokens if shortens else NO_LIMIT, uses_caches=False)
        example = renderer.render([row], lambda _: template, all_turns=False)[-1]
        if isinstance(example, Dropped):
            raise RequestError(example.reason, f"the answer cannot be scored ({example.reason})")
        self._require_room(len(example), 0)
        reader = AnswerReader(templates.kind, template.frame)
        return FamilyPrompt(example.ids.tolist(), example.prompt, template.id, reader, example.was_cut)

    def _require_room(self, tokens: int, answer_tokens: int) -> None:
        if self.context_tokens is not None and tokens + answer_tokens > self.context_tokens:
            raise self._too_long(tokens, answer_tokens)

    def _too_long(self, tokens: int, answer_tokens: int) -> RequestError:
        answer = f" and an answer of up to {answer_tokens:,}" if answer_tokens else ""
        limit = f"the context of {self.context_tokens:,} tokens" if self.context_tokens else "the tokenizer's limit"
        what = f"a prompt of {tokens:,} tokens{answer} {'exceed' if answer else 'exceeds'} {limit}"
        return RequestError("prompt_too_long", what, fix="Shorten it")

    @cached_property
    def _words(self) -> WordTable:
        return WordTable(self.tokenizer, by_word=False)


def _template_named(templates: FamilyTemplates, name: str) -> InstructionTemplate:
    for template in templates.templates:
        if template.id == name:
            return template
    known = f"Known are {', '.join(template.id for template in templates.templates)}"
    raise RequestError("unknown_template", f"the family {templates.family} has no template {name}", fix=known)


def _digest_of(request: Fields) -> str:
    return content_digest([request.get(name, "") for name in CHOOSES_TEMPLATE])


def _require_fields(template: InstructionTemplate, given: Fields, request: Fields) -> None:
    """Raises RequestError where no field that the template needs is given. An empty text is one."""
    needed = needed_fields(template.source[0])
    if INPUT in request and request["history"] == "[]" and needed:
        names = {ALIASES.get(name, name) for name in given}
        if not names & needed:
            raise _missing(tuple(sorted(needed)))


def _missing(names: tuple[str, ...]) -> RequestError:
    known = [
        f"{name} ({', '.join(a for a, of in ALIASES.items() if of == name)})" for name in names if name != "output"
    ]
    shown = " or ".join(known or names)
    return RequestError(
        "missing_field", f"a field is missing: {shown}", fix=f"Give {'one of them' if len(names) > 1 else 'it'}"
    )
