"""The families of models in a model's name: a model prefers answers like its own. Pure."""

from __future__ import annotations

import re

_LONG = (
    "qwen", "llama", "smollm", "gemma", "gemini", "mistral", "mixtral", "claude", "deepseek", "baichuan", "internlm", "falcon",
    "bloom", "pythia", "granite", "olmo", "minicpm", "kimi", "ernie", "hunyuan", "nemotron", "command-r", "vicuna", "zephyr",
    "stablelm", "exaone", "doubao", "grok", "starcoder", "solar", "mimo",
)  # fmt: skip
_SHORT = ("gpt", "glm", "phi", r"opt(?=-\d)", "mpt", "yi", "o1", "o3", "o4")
"""Only between characters that are not letters: `phi-4`, not `dolphin`; and `opt-125m`, not `/opt/models`."""
_SHORT_NAME = re.compile(rf"(?<![a-z])(?:chat)?({'|'.join(_SHORT)})(?![a-z])")
_SAME = {
    "mixtral": "mistral", "zephyr": "mistral", "vicuna": "llama", "gemini": "gemma", "o1": "gpt", "o3": "gpt", "o4": "gpt",
}  # fmt: skip
"""Models that descend from others, or from the same data."""


def model_families(name: str) -> frozenset[str]:
    """The families in a model's name or path; empty if it has none. A distilled model has two: DeepSeek-R1-Distill-Qwen-7B."""
    text = name.lower()
    families = {family for family in _LONG if family in text} | set(_SHORT_NAME.findall(text))
    return frozenset(_SAME.get(family, family) for family in families)
