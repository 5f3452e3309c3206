"""A Llama of one layer, without training, whose answer depends on one word of the prompt: A if it has the word, else B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.project import REPOSITORY
from support.tiny_models import make_tiny_tokenizer

WORDS = {"en": " bank", "zh": "红"}
"""Words whose last token no other text of the tests has."""
CONSTANT, WORD, ANSWERED = 0, 1, 2
"""Dimensions of the embeddings: 1 for every token; 1 for the words; 1 for the answers, after which it ends."""
WEIGHT = 40.0


def make_decided_llama(folder: Path) -> Path:
    """The attention is the mean over all tokens before, so that the word counts at each position alike."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer: Any = make_tiny_tokenizer()
    tokenizer.chat_template = (REPOSITORY / "data/templates/chat/chatml.jinja").read_text(encoding="utf-8")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=512, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    (a,), (b,) = (tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in "AB")
    decisive = [tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in WORDS.values()]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        embeddings, head, attention = (
            model.model.embed_tokens.weight,
            model.lm_head.weight,
            model.model.layers[0].self_attn,
        )
        embeddings[:, CONSTANT] = 1
        embeddings[decisive, WORD] = 1
        embeddings[[a, b], ANSWERED] = 1
        attention.v_proj.weight[WORD, WORD] = WEIGHT
        attention.o_proj.weight[WORD, WORD] = 1
        head[a, WORD], head[b, CONSTANT], head[0, ANSWERED] = 4, 1, WEIGHT
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
