"""Chat templates of the habits that real ones have, and a tokenizer whose texts begin with a begin token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from support.tiny_models import make_tiny_tokenizer
from tasks.prompts.tokens.tokens import Example

QWEN3 = """
{%- if tools %}{{- '<|im_start|>system\\n' }}{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.multi_step_tool and message.role == 'user' and message.content is string
   and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
{%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}{%- endif %}{%- endfor %}
{%- for message in messages %}{%- set content = message.content if message.content is string else '' %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- elif message.role == 'assistant' %}{%- set reasoning_content = '' %}
{%- if message.reasoning_content is string %}{%- set reasoning_content = message.reasoning_content %}
{%- elif '</think>' in content %}
{%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
{{- '<|im_start|>assistant\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}
{%- for call in message.tool_calls or [] %}{%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}
{%- if call.function %}{%- set call = call.function %}{%- endif %}
{{- '<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"""
"""An answer gets a thought, an empty one if it has none, where it is the last; earlier ones lose theirs; a prompt gets none."""
NO_GENERATION_PROMPT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
)
"""`add_generation_prompt` changes nothing."""
TRIMMING = (
    "{{ bos_token }}{% for m in messages %}<start>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A content is a list of parts."""
OPEN_THOUGHT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""A prompt ends within a thought, as that of Qwen3-Thinking."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_BEFORE_CALLS = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
)
_BEHIND_CALLS = "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CALLS = {
    "xml": "\n<tool_call>\n<function={{ c.function.name }}>{% for k, v in c.function.arguments | items %}"
    "\n<parameter={{ k }}>\n{{ v if v is string else v | tojson }}\n</parameter>{% endfor %}\n</function>\n</tool_call>",
    "keys and values": "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments | items %}"
    "\n<arg_key>{{ k }}</arg_key>\n<arg_value>{{ v }}</arg_value>{% endfor %}\n</tool_call>",
    "special tokens": "<start>{{ c.function.name }}<end>{{ c.function.arguments | tojson }}",
    "json": '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>',
    "bare json": '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}',
}
"""Forms of calls: as of Qwen3-Coder, GLM-4.5, Mistral, Qwen2.5, and Llama 3."""
CALLING = {name: _BEFORE_CALLS + form + _BEHIND_CALLS for name, form in CALLS.items()} | {
    "none": CHATML,
    "qwen3": QWEN3,
}
TEMPLATES = {
    "qwen3": QWEN3,
    "no generation prompt": NO_GENERATION_PROMPT,
    "trimming": TRIMMING,
    "parts": PARTS,
    "open thought": OPEN_THOUGHT,
    "chatml": CHATML,
}
MARKERS = ("<|im_start|>", "<|im_end|>", "<start>", "<end>", "<s>", "</s>")
"""Special tokens of `chat_tokenizer`."""
ADDED = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Its added tokens that are not special, as Qwen3's."""


def chat_tokenizer(template: str, begins: bool = False, end: str = "</s>", pad: str = "<|endoftext|>") -> Any:
    """A byte-level tokenizer with MARKERS and ADDED.

    Args:
        begins: it begins texts with <s>, as Llama's.
    """
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    inner = make_tiny_tokenizer().backend_tokenizer
    inner.add_special_tokens(list(MARKERS))
    inner.add_tokens([AddedToken(token, normalized=False) for token in ADDED])
    if begins:
        start = [("<s>", inner.token_to_id("<s>"))]
        inner.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=start)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token=end, pad_token=pad)
    tokenizer.chat_template = template
    return tokenizer


def save_llama(folder: Path, tokenizer: Any, embeddings: int | None = None) -> Path:
    """A Llama of 2 layers with random weights, and this tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=embeddings or len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def spaced(kind: str) -> Any:
    """A tokenizer that sets a space before a text, as SentencePiece does; what it has no token for is encoded as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({*"▁\n", *map(chr, range(33, 127)), *"你好很它叫城市巴黎。"})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = [("\n", "C"), ("\n", "它"), ("▁", "A"), ("n", "n"), ("▁A", "nn"), ("C", "i"), ("▁", "Ci"), ("它", "叫")]
    words = [first + second for first, second in merges]
    if kind == "unigram":
        scores = [(token, 0.0 if place < 3 else -9.0) for place, token in enumerate(tokens)]
        model: Any = models.Unigram([*scores, *((word, -5.0) for word in words)], unk_id=0, byte_fallback=True)
    else:
        numbers = {token: number for number, token in enumerate([*tokens, *words])}
        model = models.BPE(numbers, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = Tokenizer(model)
    if kind == "llama 2":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=kind == "unigram")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def trained_spans(example: Example) -> list[list[int]]:
    """The trained tokens, one list per contiguous span."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], example.mask, [0]]).astype(np.int8)))
    return [example.ids[first:last].tolist() for first, last in edges.reshape(-1, 2)]
