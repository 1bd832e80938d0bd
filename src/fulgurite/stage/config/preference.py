"""The stages that compare answers: reward modelling, DPO and its family, KTO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.paths import is_there, resolve_path
from fulgurite.config.schema import Derived, Empty, Range, above, at_least, below, between, knob, option
from fulgurite.data.reads import JUDGED, PAIRS, Reads
from fulgurite.stage import preference_table as pairwise
from fulgurite.stage.config.base import GenerativeStage, Stage
from fulgurite.stage.preference_table import ReferenceMode

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

ONE_PASS = Derived(1.0, "one pass over comparisons (Zephyr, Tülu 3; reward models over-fit with more)")
OF_PAIRS = Derived(64, "pairs, as in the DPO paper and in InstructGPT's reward model")


@option("stage", "rm")
@dataclass(slots=True)
class Rm(Stage):
    """Reward modelling: learns a number for an answer from pairs. Only where you rank with it, or run PPO.

    A record's field `margin`, a number, says by how much its chosen answer must win (Llama 2,
    https://arxiv.org/abs/2307.09288).
    """

    builds: ClassVar[str] = "fulgurite.stage.reward:RewardStage"
    costs: ClassVar[str] = "Two answers a pair."
    reads: ClassVar[Reads] = replace(PAIRS, margins=True)
    compares: ClassVar[bool] = True
    sides: ClassVar[int] = 2
    gives_rewards: ClassVar[bool] = True
    lr_like: ClassVar[str] = "rm"
    usual_epochs: ClassVar[Derived] = ONE_PASS

    center_rewards_coefficient: float = knob(
        0.0, "How strongly the two rewards of a pair are held around 0, as comparisons alone leave their mean free.",
        source="Eisenstein et al., https://arxiv.org/abs/2312.09244; TRL's center_rewards_coefficient, "
        "there 0.01 as an example",
        bounds=at_least(0), usual=between(0, 0.1),
        advice="0.01 where rewards of several models or runs are compared, or PPO follows.",
        raise_when="When rewards of several models are compared, or PPO follows: 0.01.",
        lower_when="When accuracy on pairs falls.",
    )

    def recommend_batch_size(self) -> Derived | None:
        return OF_PAIRS

    def find_refusal(self, run: RunConfig) -> str | None:
        return _refuse_pairs(run)


def _get_loss(run: RunConfig) -> pairwise.PreferenceLoss:
    return pairwise.get_row(run.stage.loss, run.stage.length_normalize)


def _derive_from_loss(name: str, nothing: str, what: str) -> Empty:
    """Returns the rule of a parameter whose value the loss has; the reason names this parameter, `what`."""

    def rule(run: RunConfig, facts: Facts) -> Derived:
        loss, value = str(run.stage.loss), getattr(_get_loss(run), name)
        if value is None or value == 0:
            return Derived(value, f"{nothing} for stage.loss={loss}")
        return Derived(value, f"{what} of stage.loss={loss}: {value:g}, by its paper")

    return Empty(f"what the loss's paper takes; {nothing} where a loss has none", rule)


def _derive_length_normalize(run: RunConfig, facts: Facts) -> Derived:
    found = _get_loss(run)
    if not found.normalizes:
        always = "always means a token" if found.averaged else "always sums"
        return Derived(None, f"{run.stage.loss} takes {always}")
    return Derived(
        found.averaged,
        f"{run.stage.loss}: {'TRL and the authors of the loss take means' if found.averaged else 'sums'}",
    )


def _derive_gamma(run: RunConfig, facts: Facts) -> Derived:
    share = _get_loss(run).gamma_share
    if share is None:
        return Derived(None, f"{run.stage.loss} has no margin of its own")
    return Derived(
        share * run.stage.beta, f"{share:g} times stage.beta, in the middle of what SimPO's authors search (verified)"
    )


def _derive_beta(run: RunConfig, facts: Facts) -> Derived:
    found = _get_loss(run)
    if found.weight != "beta":
        return Derived(None, f"{run.stage.loss} has no reference; its weight is stage.{found.weight}")
    return Derived(found.beta, f"{run.stage.loss}: {found.source}")


def _derive_orpo_weight(run: RunConfig, facts: Facts) -> Derived:
    found = _get_loss(run)
    if found.weight != "orpo_weight":
        return Derived(None, f"{run.stage.loss} does not read it")
    return Derived(found.beta, f"{run.stage.loss}: {found.source}")


def _derive_mode(run: RunConfig, facts: Facts) -> Derived:
    if run.stage.losses and not _get_loss(run).reference:
        return Derived(None, f"{run.stage.loss} has no reference")
    return _derive_kto_mode(run, facts)


def _derive_kto_mode(run: RunConfig, facts: Facts) -> Derived:
    if run.stage.reference is not None:
        return Derived(ReferenceMode.copy, "stage.reference is a model of its own")
    if run.method.adapter and not run.method.begins_at_zero():
        why = "this adapter changes the model before it is trained: without it the model is not the start"
        return Derived(ReferenceMode.copy, why)
    if run.method.adapter:
        return Derived(
            ReferenceMode.adapter,
            "the model without its adapter is what training started from: no second model in memory",
        )
    return Derived(ReferenceMode.copy, f"{run.method.name} changes the weights themselves: a frozen copy is kept")


_MODE_WORDS = "adapter with lora, qlora and their kin where the adapter begins at nothing; copy elsewhere"


@dataclass(slots=True)
class PreferenceStage(GenerativeStage):
    """What preference stages have that hold the policy against a reference.
    A subclass learns from pairs, if it declares nothing else."""

    builds: ClassVar[str] = "fulgurite.stage.preference:DpoStage"
    reads: ClassVar[Reads] = PAIRS
    compares: ClassVar[bool] = True
    refers: ClassVar[bool] = True
    sides: ClassVar[int] = 2
    lr_like: ClassVar[str] = "dpo"
    usual_epochs: ClassVar[Derived] = ONE_PASS

    reference: str | None = knob(
        None, "The reference model, from which the policy may not stray: a run folder, a model folder, or a hub id.",
        source="DPO, Rafailov et al., https://arxiv.org/abs/2305.18290: the model that training starts from",
        advice="Leave it empty. Another model must have the same tokenizer.",
        empty=Empty("the model that training starts from"), resolve=resolve_path,
    )
    reference_mode: ReferenceMode | None = knob(
        None,
        "How the reference is had: the model without its adapter, a frozen copy, or log-probabilities computed once "
        "and cached.",
        source="TRL's precompute_ref_log_probs and its PEFT path; ours: the three ways give the same numbers, tested",
        advice="precomputed saves a forward pass in each epoch after the first, and a full run's second copy of the "
        "model.", empty=Empty(_MODE_WORDS, _derive_mode),
        interacts={"stage.reference": "a model of its own needs copy or precomputed"},
        memory="copy holds the model twice; adapter and precomputed do not.",
        time="precomputed saves one forward pass in each epoch after the first.",
    )

    def get_factor(self) -> float:
        """The factor on log ratios that makes them rewards."""
        return float(getattr(self, "beta", 1.0))

    def recommend_batch_size(self) -> Derived | None:
        return OF_PAIRS

    def has_reference(self, adapter: bool) -> bool:
        return self.reference_mode is ReferenceMode.copy

    def find_refusal(self, run: RunConfig) -> str | None:
        return _refuse_reference(self) or _refuse_pairs(run)


@option("stage", "dpo")
@dataclass(slots=True)
class Dpo(PreferenceStage):
    """Direct Preference Optimization and its family: learns from pairs which answer is better. After SFT."""

    costs: ClassVar[str] = "Two answers a pair, and the reference's passes over them; with an adapter no second model."
    misread: ClassVar[str] = (
        "DPO is Direct Preference Optimization. It is not differential privacy, as one can read here and there: "
        "that is privacy=dp_sgd."
    )

    losses: ClassVar[str] = pairwise.FAMILY
    plots: ClassVar[bool] = True

    loss: str = knob(
        "sigmoid", "What is made small; each loss has its own beta and its own knobs.",
        source="loss/preference.py names each paper and equation; index of papers: "
        "https://huggingface.co/docs/trl/paper_index",
        advice="sigmoid first. ipo where it over-fits, robust where labels are noisy, nca_pair or apo_zero where "
        "chosen answers get less likely, simpo or orpo without a reference. aot sorts the margins of the whole "
        "optimizer step.", values=pairwise.list_names,
    )
    beta: float | None = knob(
        None,
        "Strength of the penalty for moving away from the reference model; in hinge and ipo the inverse of a margin.",
        source="The loss's paper, as fulgurite/stage/preference_table.py lists it: "
        "https://huggingface.co/docs/trl/paper_index",
        bounds=above(0), usual=lambda run: _get_loss(run).usual,
        advice="Raise it if answers drift or repeat; lower it if nothing changes.",
        empty=Empty("what the loss's paper takes; nothing in orpo, which has stage.orpo_weight", _derive_beta),
        raise_when="When answers drift, repeat or get too long.",
        lower_when="When nothing changes: the margin stays near 0.",
        interacts={
            "stage.loss": "each loss has its own scale of beta",
            "optim.lr": "a lower beta wants a lower rate",
            "stage.length_normalize": "means a token want about 5 in place of 0.1",
        },
        misread="A beta of one loss says nothing about another's: 2 is low in simpo and very high in sigmoid.",
    )
    orpo_weight: float | None = knob(
        None, "The weight of ORPO's odds-ratio term beside the chosen answer's negative log-likelihood.",
        source="ORPO's λ, https://arxiv.org/abs/2403.07691: 0.1 (verified); TRL's beta of ORPOConfig",
        bounds=above(0), usual=between(0.05, 0.2),
        advice="Raise it if the rejected answers stay as likely as the chosen ones.",
        empty=Empty("0.1 in orpo; the other losses do not read it", _derive_orpo_weight),
        raise_when="When the rejected answers stay as likely as the chosen ones.", lower_when="When text breaks.",
        interacts={"stage.loss": "read by orpo alone", "stage.sft_weight": "the weight of the other term"},
    )
    label_smoothing: float | None = knob(
        None, "The share of pairs whose label is taken to be wrong.",
        source="cDPO (Mitchell's note, 2023); rDPO, https://arxiv.org/abs/2403.00409; "
        "EXO, https://arxiv.org/abs/2402.00856",
        bounds=below(0, 0.5), usual=between(0, 0.3),
        advice="Your estimate of the noise; 0.1 for labels of people in a hurry.",
        empty=_derive_from_loss("smoothing", "no smoothing", "the smoothing"),
        raise_when="When the labels are noisy: your estimate of the share that is wrong.",
        lower_when="When labels are sure: 0.",
        interacts={"stage.loss": "read by sigmoid, robust, exo_pair, aot, simpo and cpo"},
    )
    gamma: float | None = knob(
        None, "SimPO's margin: by how much beta times the mean log-probability of the chosen answer must win.",
        source="SimPO, https://arxiv.org/abs/2405.14734: gamma / beta 0 to 1, the authors' runs 0.1 to 0.8 (verified)",
        bounds=at_least(0), usual=lambda run: Range(0, run.stage.beta or _get_loss(run).beta),
        advice="Tune gamma / beta from 0.5. Above beta it breaks text.",
        empty=Empty("half of stage.beta in simpo, nothing elsewhere", _derive_gamma),
        raise_when="When chosen and rejected answers stay too near.", lower_when="When text breaks: never above beta.",
        interacts={"stage.beta": "tune the ratio gamma / beta"},
    )
    tau: float | None = knob(
        None,
        "DiscoPOP's temperature: how sharply it turns from the logistic to the exponential loss around a margin of 0.",
        source="DiscoPOP, https://arxiv.org/abs/2406.08414: 0.05 (verified); its slope at 0 is ours, by hand",
        bounds=above(0), usual=between(0.01, 1),
        advice="Below 0.1 the loss rises from a margin of 0 and has a valley just under it, in which a gentle run "
        "stays: raise it to 0.2 to 0.5 where train/accuracy stays under one half.",
        empty=_derive_from_loss("tau", "no temperature", "the temperature"),
        raise_when="When train/accuracy stays under one half: 0.2 to 0.5.", lower_when="For the published form: 0.05.",
        interacts={"stage.beta": "the mixture turns at beta times the margin"},
    )
    sft_weight: float | None = knob(
        None, "The weight of the chosen answer's negative log-likelihood, a mean over its tokens, beside the loss.",
        source="RPO 0.005, IRPO 1, MPO 1, CPO 1 (verified); Llama 3 0.2 (unverified)", bounds=at_least(0),
        usual=between(0, 1), advice="0.2 to 1 when the chosen answer's log-probability falls and samples get worse.",
        empty=_derive_from_loss("sft_weight", "no such term", "the weight of this term"),
        raise_when="When the chosen answer's log-probability falls and samples get worse: 0.2 to 1.",
        lower_when="When the margin no longer grows.",
        interacts={"stage.loss": "1 by default in orpo and cpo"},
        misread="TRL's orpo and cpo take one mean over all tokens of a micro-batch, orpo those of the prompts as well. "
        "Here each chosen answer has its own mean, without its prompt, and counts the same whatever its length.",
    )
    length_normalize: bool | None = knob(
        None, "Whether log ratios are means over an answer's tokens in place of sums; for the losses sigmoid and ipo.",
        source="Tülu 3, https://arxiv.org/abs/2411.15124; TRL's sigmoid_norm; ipo: "
        "TRL takes means, as its authors told it (verified)",
        advice="true where longer answers win for their length; stage.beta is then 5 where nothing is said, not 0.1. "
        "false with ipo is equation 17 of the paper, with summed log-probabilities.",
        empty=Empty("true in ipo, false in sigmoid; the other losses do not read it", _derive_length_normalize),
        interacts={"stage.beta": "wants about 5 in place of 0.1", "stage.loss": "read by sigmoid and ipo"},
    )

    def get_factor(self) -> float:
        """The factor on log ratios: stage.beta, and in orpo stage.orpo_weight."""
        found = pairwise.get_row(self.loss, self.length_normalize)
        value: float | None = getattr(self, found.weight)
        return found.beta if value is None else value

    def find_refusal(self, run: RunConfig) -> str | None:
        found, loss = _get_loss(run), str(self.loss)
        if self.beta is not None and found.weight != "beta":
            return f"stage.beta is not read by stage.loss={loss}; write stage.{found.weight}={self.beta:g}."
        if self.orpo_weight is not None and found.weight != "orpo_weight":
            return (
                f"stage.orpo_weight={self.orpo_weight:g} is not read by stage.loss={loss}; "
                "leave it out, or take stage.loss=orpo."
            )
        if self.reference and self.reference.startswith(("/", ".", "~")) and not is_there(self.reference):
            return f"stage.reference={self.reference}: there is no such folder; give a model's folder, or leave it out."
        for knob_name, name, value in (
            ("label_smoothing", "smoothing", self.label_smoothing), ("gamma", "gamma_share", self.gamma),
            ("tau", "tau", self.tau),
        ):
            if value is not None and getattr(found, name) is None:
                readers = _join_or(pairwise.list_reading(name))
                return f"stage.{knob_name}={value:g} is not read by stage.loss={loss}; leave it out, or take {readers}."
        if self.length_normalize is not None and not found.normalizes:
            always = "divides by the lengths anyway" if found.averaged else "does not read it"
            given = str(self.length_normalize).lower()
            return (
                f"stage.length_normalize={given} is for {_join_or(pairwise.list_normalizing())}, and {loss} {always}; "
                "leave it out."
            )
        if found.log_smoothing and self.label_smoothing == 0:
            return (
                f"stage.label_smoothing=0 is not possible with stage.loss={loss}, which takes its logarithm; "
                "take 0.001."
            )
        if not found.reference and (self.reference is not None or self.reference_mode is not None):
            return (
                f"stage.loss={loss} has no reference: leave stage.reference and stage.reference_mode out, "
                "or take stage.loss=sigmoid."
            )
        return _refuse_reference(self) or _refuse_pairs(run)


@option("stage", "kto")
@dataclass(slots=True)
class Kto(PreferenceStage):
    """Kahneman-Tversky optimization: learns from single answers, each marked good or bad. Where there
    are no pairs. After SFT."""

    builds: ClassVar[str] = "fulgurite.stage.preference:KtoStage"
    costs: ClassVar[str] = "A row's answer, a mismatched one for the baseline, and the reference."
    reads: ClassVar[Reads] = JUDGED
    sides: ClassVar[int] = 1
    judged: ClassVar[bool] = True
    lr_like: ClassVar[str] = "kto"
    fewest: ClassVar[int] = 16
    misread: ClassVar[str] = "KTO is Kahneman-Tversky optimization. It needs no pairs."

    reference_mode: ReferenceMode | None = knob(
        None, "How the reference is had: the model without its adapter, or a frozen copy.",
        source="TRL's PEFT path; ours: both give the same numbers, tested",
        advice="Leave it. precomputed is not possible: the baseline needs other pairs of prompt and answer in each "
        "step.", empty=Empty(_MODE_WORDS, _derive_kto_mode),
    )
    beta: float = knob(
        0.1, "How dearly leaving the reference is paid.",
        source="KTO, https://arxiv.org/abs/2402.01306: 0.1 (verified)", bounds=above(0), usual=between(0.05, 0.5),
        advice="Raise it if answers drift or repeat; lower it if nothing changes.",
        raise_when="When answers drift or repeat.", lower_when="When nothing changes.",
        interacts={"optim.lr": "a lower beta wants a lower rate"},
    )
    desirable_weight: float = knob(
        1.0, "The weight of good answers.", source="KTO, https://arxiv.org/abs/2402.01306; TRL's desirable_weight",
        bounds=above(0), usual=between(0.5, 4),
        advice="Where good and bad are unequal: weight times count of the good to that of the bad between 1:1 and 4:3.",
        raise_when="When there are fewer good answers than bad.", lower_when="When there are more good than bad ones.",
        interacts={"stage.undesirable_weight": "weight times count should be near 1:1 to 4:3"},
    )
    undesirable_weight: float = knob(
        1.0, "The weight of bad answers.", source="KTO, https://arxiv.org/abs/2402.01306; TRL's undesirable_weight",
        bounds=above(0), usual=between(0.5, 4),
        advice="As stage.desirable_weight; raise the one of which there are fewer.",
        raise_when="When there are fewer bad answers than good.", lower_when="When there are more bad than good ones.",
        interacts={"stage.desirable_weight": "weight times count should be near 1:1 to 4:3"},
    )

    def recommend_batch_size(self) -> Derived | None:
        return Derived(32, "KTO's baseline wants 16 to 128 (TRL's KTO page)")

    def find_refusal(self, run: RunConfig) -> str | None:
        if self.reference_mode is ReferenceMode.precomputed:
            return (
                f"stage.reference_mode=precomputed is not possible in stage={self.name}: "
                "its baseline needs other pairs in each step; take copy."
            )
        return _refuse_reference(self) or _refuse_pairs(run)


def _refuse_reference(stage: PreferenceStage) -> str | None:
    if stage.reference is not None and stage.reference_mode is ReferenceMode.adapter:
        return (
            "stage.reference_mode=adapter is the model that training starts from; "
            "with stage.reference take copy or precomputed."
        )
    return None


def _refuse_pairs(run: RunConfig) -> str | None:
    """What comparing answers cannot have of the data's knobs."""
    if run.data.packing is not None and str(run.data.packing) != "none":
        return (
            f"data.packing={run.data.packing} is not possible in stage={run.stage.name}: "
            "answers are compared one by one; leave it out."
        )
    if str(run.data.mask) == "all":
        return (
            f"data.mask=all is not possible in stage={run.stage.name}: it is the last answers that are compared; "
            "leave it out."
        )
    return None


def _join_or(names: list[str]) -> str:
    return "stage.loss=" + " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
