"""Whether the model can be trained as a causal language model, and what of it was mended."""

from __future__ import annotations

import json

from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.rules.registry import Finding

SOME = 8
"""Tokens that are named one by one."""


@rule(
    "model.not-causal",
    "error",
    source="Ours, measured (model/probe.py): an encoder without is_decoder reads in both directions",
)
def check_not_causal(seen: PlanFacts) -> Finding | None:
    """A model whose predictions change with later tokens: it would read the answer before it learns it."""
    if seen.model.causal is not False:
        return None
    return Finding(
        f"A later token changes an earlier prediction of {seen.model.architecture}: it would see what it is to learn. "
        f"An encoder needs "
        "is_decoder=true in its config.json; else take a causal language model.",
    )


@rule(
    "model.vocabulary",
    "error",
    source="lo-fit #1, LlamaFactory #6709: a tokenizer with more tokens than the embedding has rows",
)
def check_vocabulary(seen: PlanFacts) -> Finding | None:
    """Tokens of the data that the embedding has no row for."""
    words = seen.data.without_row if seen.data is not None else []
    if not words:
        return None
    named = ", ".join(map(repr, words[:SOME])) + (f" and {len(words) - SOME:,} more" if len(words) > SOME else "")
    sentence = (
        f"The model's embedding has {seen.model.vocab:,} rows, and none for {named}, which the tokenizer has and the "
        f"data contain"
    )
    if len(words) > SOME:
        return Finding(f"{sentence}; take the tokenizer that the model was trained with.")
    known = [*seen.run.model.add_tokens, *words]
    return Finding(
        f"{sentence}; give them rows, or take the tokenizer that the model was trained with.",
        f"model.add_tokens='{json.dumps(known, ensure_ascii=False, separators=(',', ':'))}'",
    )


@rule("model.mended", "warning", source="lo-fit #1, LLaVA #94: a padding token beyond the embedding")
def check_mended(seen: PlanFacts) -> Finding | None:
    """What loading changes so that the model can be trained."""
    return Finding(" ".join(map(str, seen.model.notes))) if seen.model.notes else None


@rule(
    "model.attention",
    "warning",
    about="model.attention",
    source="transformers docs, attention interface; tried: 10 of 43 architectures",
)
def check_attention(seen: PlanFacts) -> Finding | None:
    """That the asked implementation of attention is not there for the architecture, and eager is taken."""
    if seen.model.attention != "eager" or seen.is_given("model.attention"):
        return None
    return Finding(
        f"transformers has no sdpa attention for {seen.model.architecture}: model.attention=eager is taken, whose "
        f"memory grows with the "
        "square of the length."
    )
