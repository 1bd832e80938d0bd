"""Rules about how a conversation becomes tokens, and what of them the model can learn. A template without an end, or
one that renders otherwise in training than at inference, is refused by data/template.py."""

from __future__ import annotations

from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.rules.registry import Finding


@rule("template.unsure", "warning", about="data.template", source=(
    "S24, P14, P15: LlamaFactory #5593, #3439, #2509 (26 against 57 %)"
))
def check_unsure(seen: PlanFacts) -> Finding | None:
    """A chat format that the model was not made with: it has none of its own, or another one replaces it."""
    run, name = seen.run, seen.model.path or seen.run.model.name
    if run.stage.reads.running_text:
        return None
    format = run.data.template or seen.model.template_name or "chatml"
    if not seen.model.has_template:
        return Finding(
            message(
                "The tokenizer of {model} has no chat template: {format} is used and saved with the model, which has "
                "not seen it before.",
                model=name, format=format,
            )
        )
    if run.data.template is not None:
        return Finding(
            message(
                "data.template={format} replaces the chat template of the tokenizer of {model}, and the model must "
                "then be served with it.",
                format=format, model=name,
            ),
            "data.template=null",
        )
    return None


@rule("data.no-end", "error", source="S11, P14: LlamaFactory #5593, #5834, #3813, #2884, #5145 (it never stops)")
def check_no_end(seen: PlanFacts) -> Finding | None:
    """Whole answers without their end token among the labels: the model would not learn to stop."""
    data, run = seen.data, seen.run
    if data is None or not data.no_end or run.stage.rolls_out:
        return None
    own = run.data.template is not None and seen.model.has_template
    return Finding(
        message(
            "{count:,} answers have no end token in their labels: the model will not learn to stop.", count=data.no_end
        ),
        "data.template=null" if own else suggest_chatml(seen),
    )


def suggest_chatml(seen: PlanFacts) -> str:
    """Returns the overrides for our own format; they allow the finding that it replaces the tokenizer's, if it has
    one."""
    allowed = ",".join(sorted({*seen.run.plan.allow, "template.unsure"}))
    return "data.template=chatml" + f" plan.allow=[{allowed}]" * seen.model.has_template


@rule("data.two-starts", "error", source="reliability T23 (template and tokenizer both add it)")
def check_two_starts(seen: PlanFacts) -> Finding | None:
    """Examples that begin with the start token twice."""
    data = seen.data
    if data is None or not data.two_starts:
        return None
    own = seen.run.data.template is not None and seen.model.has_template
    return Finding(
        message(
            "{count:,} examples begin with two start tokens, the first at {place}: take one out of the template, or "
            "out of the text.",
            count=data.two_starts, place=data.first_two_starts,
        ) if data.first_two_starts else message(
            "{count:,} examples begin with two start tokens: take one out of the template, or out of the text.",
            count=data.two_starts,
        ),
        "data.template=null" if own else "",
    )


@rule("tokens.new", "error", source=(
    "LlamaFactory #6277, #7997, #2888, #6709 (not learned, or lost on reload); frozen embeddings model/config.py "
    "refuses"
))
def check_new_tokens(seen: PlanFacts) -> Finding | None:
    """New tokens that the model could read but not write, because its head is frozen apart from the embeddings."""
    run, added = seen.run, len(seen.run.model.add_tokens)
    if not added or seen.model.tied or run.method.trains_head():
        return None
    return Finding(
        message(
            "There are {count} new tokens, but the head, which is not tied to the embeddings, is frozen.", count=added
        ),
        "method.extra_trainable=[embeddings,head]",
    )
