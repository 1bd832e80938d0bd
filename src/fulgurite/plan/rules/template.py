"""How a conversation becomes tokens, and what of them the model can learn. A template without an end, or one that
renders otherwise in training than at inference, data/template.py refuses itself."""

from __future__ import annotations

from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.rules.registry import Finding


@rule("template.unsure", "warning", about="data.template", source=(
    "S24, P14, P15: LlamaFactory #5593, #3439, #2509 (26 against 57 %)"
))
def check_unsure(seen: PlanFacts) -> Finding | None:
    """A chat format that the model was not made with: it has none of its own, or another one is put in its place."""
    run, name = seen.run, seen.model.path or seen.run.model.name
    if run.stage.reads.running_text:
        return None
    format = run.data.template or seen.model.template_name or "chatml"
    if not seen.model.has_template:
        return Finding(
            f"The tokenizer of {name} has no chat template: {format} is put in and saved with the model, which has "
            f"not seen it before."
        )
    if run.data.template is not None:
        return Finding(
            f"data.template={format} takes the place of the chat template that the tokenizer of {name} brings, and "
            f"the model is then to "
            "be served with it.",
            "data.template=null",
        )
    return None


@rule("data.no-end", "error", source="S11, P14: LlamaFactory #5593, #5834, #3813, #2884, #5145 (it never stops)")
def check_no_end(seen: PlanFacts) -> Finding | None:
    """Whole answers without their end token among what is learned: the model would not learn to stop."""
    data, run = seen.data, seen.run
    if data is None or not data.no_end or run.stage.rolls_out:
        return None
    own = run.data.template is not None and seen.model.has_template
    return Finding(
        f"{data.no_end:,} answers end without an end token in their labels: the model will not learn to stop.",
        "data.template=null" if own else "data.template=chatml",
    )


@rule("data.two-starts", "error", source="reliability T23 (template and tokenizer both add it)")
def check_two_starts(seen: PlanFacts) -> Finding | None:
    """Examples that begin with the start token twice."""
    data = seen.data
    if data is None or not data.two_starts:
        return None
    where = f", the first at {data.first_two_starts}" if data.first_two_starts else ""
    own = seen.run.data.template is not None and seen.model.has_template
    return Finding(
        f"{data.two_starts:,} examples begin with two start tokens{where}: take one out of the template, or out of "
        f"the text.",
        "data.template=null" if own else "",
    )


@rule("tokens.new", "error", source=(
    "LlamaFactory #6277, #7997, #2888, #6709 (not learned, or lost on reload); frozen embeddings model/config.py "
    "refuses"
))
def check_new_tokens(seen: PlanFacts) -> Finding | None:
    """New tokens that the model could read and never say, because its head is frozen apart from the embeddings."""
    run, added = seen.run, len(seen.run.model.add_tokens)
    if not added or seen.model.tied or run.method.trains_head():
        return None
    return Finding(f"{added} new tokens, but the head, which is not tied to the embeddings, is frozen.",
        "method.extra_trainable=[embeddings,head]")
