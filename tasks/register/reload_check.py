"""Compares the answers of a reloaded model with those that were evaluated.

    problems = differing_answers(model, tokenizer, labels, evaluated)     # one line per differing row; empty: as evaluated

Generated answers must have the same tokens. Where they part from the evaluated ones, both next tokens must be a near tie: greedy
decoding then depends on the last bits, which another batch, processor, GPU or server computes otherwise. Labels, rewards and
likelihoods must be equal within the same tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tasks.base.generation import answer_reader, end_token_ids
from tasks.base.heads import REWARD, begin_ids, context_length_of, head_logits
from tasks.base.precision import DTYPES, computes_bf16
from tasks.inference.embedded import EmbeddedEngine
from tasks.inference.support import inner_model
from tasks.register.evaluated_rows import Evaluated, Row
from tasks.runtime.threads import Threads
from tasks.scoring.calibration import highest_probability

TOLERANCE = 1e-3
"""Greatest difference of a logit, relative to the largest one, if the evaluation was in fp32."""
ROUGH_TOLERANCE = 0.02
"""The same in bf16, which has 8 bits, and for answers of a server."""
MOST_TOKENS = 32
"""The first tokens of each answer that are compared, so that long answers cost no minutes."""
CANDIDATES = 50
"""The tokens with the highest logits, among which that of an evaluated answer is sought."""
INCOMPLETE = "\ufffd"
"""How a tokenizer decodes the first bytes of a character."""
MEMORY_SHARE = 0.7
"""The share of the free memory that a model in fp32 may add."""
PIECE_TOKENS = 1024
"""The longest piece of a text in one forward pass, as in the evaluation."""
ROWS_AT_ONCE = 32
PAIR = ("chosen_ids", "rejected_ids")


def differing_answers(model: Any, tokenizer: Any, labels: tuple[str, ...] | None, evaluated: Evaluated) -> list[str]:
    """The rows that the model answers otherwise, each with the difference.

    Args:
        labels: those of the model's head; None without one.
    """
    is_exact = evaluated.precision == "fp32" and not evaluated.is_by_server
    tolerance = TOLERANCE if is_exact else ROUGH_TOLERANCE
    model = in_precision(model, evaluated.precision)
    if labels == REWARD:
        return _differing_rewards(model, evaluated.rows, tolerance)
    if labels is not None:
        return _differing_labels(model, labels, evaluated.rows, tolerance)
    if all(row.get("bits") is not None for row in evaluated.rows):
        return _differing_likelihoods(model, tokenizer, evaluated.rows, tolerance)
    return _differing_texts(model, tokenizer, evaluated, tolerance)


def in_precision(model: Any, precision: str) -> Any:
    """The model on the CPU in the precision of the evaluation, or in fp32 where the CPU only emulates bf16; unchanged if the memory
    is not enough for fp32. Weights of an adapter stay in fp32, as they are loaded for an evaluation."""
    import psutil

    dtype = DTYPES["bf16" if precision == "bf16" and computes_bf16() else "fp32"]
    added_bytes = sum(w.numel() * (dtype.itemsize - w.dtype.itemsize) for w in model.parameters())
    if added_bytes > MEMORY_SHARE * psutil.virtual_memory().available:
        return model.cpu().eval()
    is_adapter = inner_model(model) is not model
    for name, weights in model.named_parameters():
        own = is_adapter and any(part in name for part in ("lora_", "modules_to_save", "prompt_encoder"))
        weights.data = weights.data.to(DTYPES["fp32"] if own else dtype)
    return model.cpu().eval()


def _differing_texts(model: Any, tokenizer: Any, evaluated: Evaluated, tolerance: float) -> list[str]:
    engine = EmbeddedEngine(
        model, tokenizer, stage="register", rows=ROWS_AT_ONCE, threads=Threads("register", is_quiet=True)
    )
    read, ends = answer_reader(tokenizer), end_token_ids(inner_model(model), tokenizer)
    most = min(evaluated.max_new_tokens, MOST_TOKENS)
    answers = engine.tokens_of([row["prompt_ids"] for row in evaluated.rows], most)
    problems = []
    for row, tokens in zip(evaluated.rows, answers, strict=True):
        place = parting(tokens, row, read, ends)
        is_whole = not set(ends).isdisjoint(tokens) or most == evaluated.max_new_tokens
        if place == len(tokens) and (not is_whole or read(tokens) == row["prediction"]):
            continue
        place, expected = evaluated_token(tokenizer, tokens[:place], row["prediction"], read)
        gap = _gap(model, row, tokens, place, read, ends, expected)
        if gap > tolerance:
            distance = "which is none of its likely tokens" if math.isinf(gap) else f"whose logit is {gap:.3g} lower"
            problems.append(f"row {row['row_id']}: token {place + 1} is not the evaluated one, {distance}")
    return problems


def parting(tokens: Sequence[int], row: Row, read: Any, ends: Sequence[int]) -> int:
    """The position of the first token that does not lead to the evaluated answer."""
    text = row["prediction"]
    for place, token in enumerate(tokens):
        decoded = read(tokens[: place + 1])
        is_other_end = token in ends and (decoded != text or row["is_cut"])
        if is_other_end or not text.startswith(decoded.rstrip(INCOMPLETE)):
            return place
    return len(tokens)


def evaluated_token(tokenizer: Any, before: Sequence[int], text: str, read: Any) -> tuple[int, int | None]:
    """The position at which `before`, or the token after it, parts from the tokenizer's encoding of `text`, and the token there.

    A part of a character decodes to no text, so it may have parted earlier than at the end of the character. The token is None if
    the text was generated in another encoding.
    """
    complete = next(end for end in range(len(before), -1, -1) if not read(before[:end]).endswith(INCOMPLETE))
    ids = tokenizer(text[len(read(before[:complete])) :], add_special_tokens=False)["input_ids"]
    for place, (own, token) in enumerate(zip(before[complete:], ids, strict=False), start=complete):
        if own != token:
            return place, token
    pending = len(before) - complete
    return len(before), ids[pending] if len(ids) > pending else None


def _gap(
    model: Any, row: Row, tokens: Sequence[int], place: int, read: Any, ends: Sequence[int], expected: int | None
) -> float:
    """How much lower the logit of the evaluated token at this position is than the highest one, relative to the largest logit;
    infinite if it is no likely token."""
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    before, text = list(tokens[:place]), row["prediction"]
    ids = torch.tensor([[*row["prompt_ids"], *before]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[:, -1].float()
        penalty = inner_model(model).generation_config.repetition_penalty or 1.0
        logits = logits if penalty == 1.0 else RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
    own, decoded = (tokens[place] if place < len(tokens) else None), read(before)
    for token in logits[0].topk(min(CANDIDATES, logits.shape[1])).indices.tolist():
        longer = read([*before, token])
        # the first bytes of a character lead to any character, so they count only as part of the text's own encoding
        is_longer = len(longer) > len(decoded) or (row["is_cut"] and decoded == text)  # white space after an answer
        leads_on = decoded == text if token in ends else is_longer and text.startswith(longer)
        if (leads_on or token == expected) and token != own:
            return float((logits.max() - logits[0, token]) / logits.abs().max().clamp(min=1.0))
    return math.inf


def _differing_labels(model: Any, labels: Sequence[str], rows: Sequence[Row], tolerance: float) -> list[str]:
    problems = []
    for row, logits in zip(rows, head_logits(model, [row["prompt_ids"] for row in rows], ROWS_AT_ONCE), strict=True):
        evaluated, allowed = logits[labels.index(row["prediction"])], tolerance * max(1.0, *map(abs, logits))
        confidence = highest_probability(logits) or 0.0
        if max(logits) - evaluated > allowed:
            predicted = labels[max(range(len(labels)), key=lambda i: logits[i])]
            problems.append(f"row {row['row_id']}: the label is {predicted}, not {row['prediction']}")
        elif row.get("confidence") is not None and abs(confidence - row["confidence"]) > allowed:
            problems.append(f"row {row['row_id']}: the confidence is {confidence:.4f}, not {row['confidence']:.4f}")
    return problems


def _differing_rewards(model: Any, rows: Sequence[Row], tolerance: float) -> list[str]:
    better_ones, worse_ones = (
        [value for (value,) in head_logits(model, [row[name] for row in rows], ROWS_AT_ONCE)] for name in PAIR
    )
    problems = []
    for row, better, worse in zip(rows, better_ones, worse_ones, strict=True):
        score = 1.0 if better > worse else 0.0 if better < worse else 0.5
        if score != row["score"] and abs(better - worse) > tolerance * max(1.0, abs(better), abs(worse)):
            problems.append(
                f"row {row['row_id']}: the rewards are {better:.4g} and {worse:.4g}, so its score is {score}"
            )
    return problems


def _differing_likelihoods(model: Any, tokenizer: Any, rows: Sequence[Row], tolerance: float) -> list[str]:
    bits = [_bits(model, tokenizer, row["prompt_ids"]) for row in rows]
    return [
        f"row {row['row_id']}: its likelihood is {-value:.6g} bits, not {-row['bits']:.6g}"
        for row, value in zip(rows, bits, strict=True)
        if not abs(value - row["bits"]) <= tolerance * max(1.0, abs(row["bits"]))
    ]


def _bits(model: Any, tokenizer: Any, ids: Sequence[int]) -> float:
    """The negative log2 likelihood of a text, in pieces after the tokens that begin a text, as in the evaluation."""
    import torch

    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    start = begin_ids(tokenizer) or [begin]
    is_prompted = inner_model(model) is not model and model.active_peft_config.is_prompt_learning
    virtual = model.active_peft_config.num_virtual_tokens if is_prompted else 0
    length = min(PIECE_TOKENS, (context_length_of(model.config) or PIECE_TOKENS + virtual) - virtual) - len(start)
    total = 0.0
    for first in range(0, len(ids), length):
        piece = torch.tensor(ids[first : first + length])
        with torch.inference_mode():
            logits = model(input_ids=torch.cat([torch.tensor(start), piece])[None]).logits[0, -len(piece) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits.float(), piece, reduction="sum"))
    return total / math.log(2)
