"""Rules about what an export will change or refuse: known before training, so that a run that was paid for can be
exported."""

from __future__ import annotations

from fulgurite.language.message import message
from fulgurite.method.separate import describe_base_change
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.rules.template import suggest_chatml
from fulgurite.rules.registry import Finding


@rule(
    "export.template",
    "error",
    insist=True,
    source="Ours: an export is proven by this comparison, and would be refused by it",
)
def check_template(seen: PlanFacts) -> Finding | None:
    """transformers renders the tokenizer's chat template differently from training."""
    if not seen.model.template_differs:
        return None
    return Finding(
        message("The exported tokenizer {difference}", difference=seen.model.template_differs), suggest_chatml(seen)
    )


@rule("export.generation", "note", source="huggingface/transformers#29988, LLaMA-Factory #2545, #2479, #2837")
def check_generation(seen: PlanFacts) -> Finding | None:
    """The base has a generation config that transformers refuses to save."""
    if not seen.model.invalid_generation or seen.run.stage.gives_rewards:
        return None
    fields = ", ".join(f"{name}={value}" for name, value in seen.model.invalid_generation.items())
    return Finding(
        message(
            "An export leaves out of generation_config.json what transformers refuses there: {fields}.", fields=fields
        )
    )


@rule("export.padding", "note", source="huggingface/transformers#35352, OpenRLHF #300")
def check_padding(seen: PlanFacts) -> Finding | None:
    """A reward model whose tokenizer has no padding token but the end of turn."""
    if not seen.run.stage.gives_rewards or seen.model.free_padding:
        return None
    return Finding(
        message(
            "The tokenizer has no padding token but the end of turn: an export with merge=true adds one, and one with "
            "merge=false is refused."
        )
    )


@rule("export.apart", "note", source="Ours: what `fulgurite export merge=false` refuses")
def check_apart(seen: PlanFacts) -> Finding | None:
    """An adapter that cannot be exported without its base."""
    if (
        not seen.run.method.adapter
        or (changed := describe_base_change(seen.run.method, bool(seen.run.model.add_tokens))) is None
    ):
        return None
    return Finding(message("This run {change}: it can be exported merged, but not with merge=false.", change=changed))
