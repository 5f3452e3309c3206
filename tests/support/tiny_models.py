"""Tiny base models with random weights, made on the spot. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.project import REPOSITORY
from support.toy_rows import qa_records, topic_records


def make_tiny_tokenizer() -> Any:
    """A byte-level tokenizer of 400 tokens, trained on the toy rows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    texts = [r["text"] + r["label"] for r in topic_records(30)] + [
        r["instruction"] + r["output"] for r in qa_records(10)
    ]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def make_tiny_gpt2(folder: Path) -> Path:
    """A GPT-2 of 2 layers with random weights; its tokenizer has no chat template."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    fast = make_tiny_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(fast), n_positions=512, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_tiny_llama(folder: Path) -> Path:
    """A Llama of 2 layers with random weights, grouped key and value heads, and a chat template of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = make_tiny_tokenizer()
    fast.chat_template = (REPOSITORY / "data/templates/chat/chatml.jinja").read_text(encoding="utf-8")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_tiny_bert(folder: Path) -> Path:
    """A BERT of 2 layers with random weights, of a body alone; its tokenizer writes [CLS] and [SEP], and has no end token."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    inner = make_tiny_tokenizer().backend_tokenizer
    marks = {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    inner.add_special_tokens(list(marks.values()))
    ends = [(token, inner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=128, **marks)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
