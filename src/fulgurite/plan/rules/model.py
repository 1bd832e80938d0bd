"""Rules about whether the model can be trained as a causal language model, and what loading changes in it."""

from __future__ import annotations

import json

from fulgurite.language.message import as_message, message
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
        message(
            "A later token changes an earlier prediction of {architecture}: it would see what it is to learn. An "
            "encoder needs is_decoder=true in its config.json; otherwise use a causal language model.",
            architecture=seen.model.architecture,
        )
    )


@rule(
    "model.vocabulary",
    "error",
    source="lo-fit #1, LlamaFactory #6709: a tokenizer with more tokens than the embedding has rows",
)
def check_vocabulary(seen: PlanFacts) -> Finding | None:
    """Tokens of the data for which the embedding has no row."""
    words = seen.data.without_row if seen.data is not None else []
    if not words:
        return None
    more = message(" and {count:,} more", count=len(words) - SOME) if len(words) > SOME else message("")
    sentence = message(
        "The model's embedding has {rows:,} rows, and none for {names}{more}, which the tokenizer has and the data "
        "contain",
        rows=seen.model.vocab, names=", ".join(map(repr, words[:SOME])), more=more,
    )
    if len(words) > SOME:
        return Finding(message("{sentence}; use the tokenizer that the model was trained with.", sentence=sentence))
    known = [*seen.run.model.add_tokens, *words]
    return Finding(
        message(
            "{sentence}; add rows for them, or use the tokenizer that the model was trained with.",
            sentence=sentence,
        ),
        f"model.add_tokens='{json.dumps(known, ensure_ascii=False, separators=(',', ':'))}'",
    )


@rule("model.mended", "warning", source="lo-fit #1, LLaVA #94: a padding token beyond the embedding")
def check_mended(seen: PlanFacts) -> Finding | None:
    """What loading changes so that the model can be trained."""
    found = message("")
    for note in seen.model.notes:
        found = message("{before} {after}", before=found, after=note) if found else as_message(note)
    return Finding(found) if found else None


@rule(
    "model.attention",
    "warning",
    about="model.attention",
    source="transformers docs, attention interface; tried: 10 of 43 architectures",
)
def check_attention(seen: PlanFacts) -> Finding | None:
    """The architecture lacks the attention that was asked for, and eager is used."""
    if seen.model.attention != "eager" or seen.is_given("model.attention"):
        return None
    return Finding(
        message(
            "transformers has no sdpa attention for {architecture}: model.attention=eager is used, whose memory grows "
            "with the square of the length.",
            architecture=seen.model.architecture,
        )
    )
