"""Default values of the parameters of preference stages, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fulgurite.config.schema import Derived, Empty
from fulgurite.language.message import UserMessage, message
from fulgurite.stage import preference_table as pairwise
from fulgurite.stage.preference_table import ReferenceMode

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

ONE_PASS = Derived(1.0, message("one pass over comparisons (Zephyr, Tülu 3; reward models over-fit with more)"))
OF_PAIRS = Derived(64, message("pairs, as in the DPO paper and in InstructGPT's reward model"))


def get_loss(run: RunConfig) -> pairwise.PreferenceLoss:
    """Returns what the loss of the run declares."""
    return pairwise.get_row(run.stage.loss, run.stage.length_normalize)


def derive_from_loss(name: str, nothing: UserMessage, what: UserMessage, words: str) -> Empty:
    """Returns the rule of a parameter whose value the loss has; the reason names this parameter, `what`."""

    def rule(run: RunConfig, facts: Facts) -> Derived:
        loss, value = str(run.stage.loss), getattr(get_loss(run), name)
        if value is None or value == 0:
            return Derived(value, message("stage.loss={loss} has {nothing}", nothing=nothing, loss=loss))
        return Derived(
            value, message("{what} of stage.loss={loss}: {value:g}, by its paper", what=what, loss=loss, value=value)
        )

    return Empty(words, rule)


def derive_length_normalize(run: RunConfig, facts: Facts) -> Derived:
    """Returns stage.length_normalize if it is empty."""
    found = get_loss(run)
    if not found.normalizes:
        if found.averaged:
            return Derived(None, message("{loss} always uses means per token", loss=run.stage.loss))
        return Derived(None, message("{loss} always uses sums", loss=run.stage.loss))
    if found.averaged:
        return Derived(True, message("{loss}: TRL and the authors of the loss use means", loss=run.stage.loss))
    return Derived(False, message("{loss}: sums", loss=run.stage.loss))


def derive_gamma(run: RunConfig, facts: Facts) -> Derived:
    """Returns stage.gamma if it is empty."""
    share = get_loss(run).gamma_share
    if share is None:
        return Derived(None, message("{loss} has no margin of its own", loss=run.stage.loss))
    return Derived(
        share * run.stage.beta,
        message("{share:g} times stage.beta, in the middle of the values that SimPO's authors search (verified)",
                share=share),
    )


def derive_beta(run: RunConfig, facts: Facts) -> Derived:
    """Returns stage.beta if it is empty."""
    found = get_loss(run)
    if found.weight != "beta":
        return Derived(
            None,
            message("{loss} has no reference; its weight is stage.{weight}", loss=run.stage.loss, weight=found.weight),
        )
    return _derive_published(run, found)


def _derive_published(run: RunConfig, found: pairwise.PreferenceLoss) -> Derived:
    return Derived(found.beta, message("{loss}: {source}", loss=run.stage.loss, source=found.source))


def derive_orpo_weight(run: RunConfig, facts: Facts) -> Derived:
    """Returns stage.orpo_weight if it is empty."""
    found = get_loss(run)
    if found.weight != "orpo_weight":
        return Derived(None, message("{loss} does not use it", loss=run.stage.loss))
    return _derive_published(run, found)


def derive_mode(run: RunConfig, facts: Facts) -> Derived:
    """Returns stage.reference_mode of DPO if it is empty."""
    if run.stage.losses and not get_loss(run).reference:
        return Derived(None, message("{loss} has no reference", loss=run.stage.loss))
    return derive_kto_mode(run, facts)


def derive_kto_mode(run: RunConfig, facts: Facts) -> Derived:
    """Returns stage.reference_mode if it is empty and the loss has a reference."""
    if run.stage.reference is not None:
        return Derived(ReferenceMode.copy, message("stage.reference is another model"))
    if run.method.adapter and not run.method.begins_at_zero():
        return Derived(
            ReferenceMode.copy,
            message("this adapter changes the model before training: without it the model is not the start"),
        )
    if run.method.adapter:
        return Derived(
            ReferenceMode.adapter,
            message("the model without its adapter is the start of training: no second model in memory"),
        )
    return Derived(
        ReferenceMode.copy,
        message("{method} changes the weights themselves: a frozen copy is kept", method=run.method.name),
    )


MODE_WORDS = "adapter with lora, qlora and similar methods whose adapter starts at zero; else copy"
