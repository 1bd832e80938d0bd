"""The stages that compare answers: reward modelling, DPO and its losses, KTO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.paths import is_there, resolve_path
from fulgurite.config.schema import Derived, Empty, above, at_least, below, between, knob, option
from fulgurite.data.reads import JUDGED, PAIRS, Reads
from fulgurite.language.message import UserMessage, message
from fulgurite.stage import preference_table as pairwise
from fulgurite.stage.config.base import GenerativeStage, Stage
from fulgurite.stage.config.preference_defaults import (
    MODE_WORDS,
    OF_PAIRS,
    ONE_PASS,
    derive_beta,
    derive_from_loss,
    derive_gamma,
    derive_kto_mode,
    derive_length_normalize,
    derive_mode,
    derive_orpo_weight,
    get_loss,
)
from fulgurite.stage.preference_table import ReferenceMode

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig

@option("stage", "rm")
@dataclass(slots=True)
class Rm(Stage):
    """Reward modelling: learns from pairs to give an answer a number. Only to rank answers, or for PPO.

    The field `margin` of a record, a number, is the margin by which its chosen answer must win (Llama 2,
    https://arxiv.org/abs/2307.09288).
    """

    builds: ClassVar[str] = "fulgurite.stage.reward:RewardStage"
    works_on_shards: ClassVar[bool] = True
    costs: ClassVar[str] = "Two answers per pair."
    reads: ClassVar[Reads] = replace(PAIRS, margins=True)
    compares: ClassVar[bool] = True
    sides: ClassVar[int] = 2
    gives_rewards: ClassVar[bool] = True
    lr_like: ClassVar[str] = "rm"
    usual_epochs: ClassVar[Derived] = ONE_PASS

    center_rewards_coefficient: float = knob(
        0.0, "Strength of the term that keeps the rewards of a pair around 0; comparisons do not fix their mean.",
        source="Eisenstein et al., https://arxiv.org/abs/2312.09244; TRL's center_rewards_coefficient, "
        "there 0.01 as an example",
        bounds=at_least(0), usual=between(0, 0.1),
        advice="0 to rank the answers of one model.",
        raise_when="To compare rewards of several models or runs, or before PPO: 0.01.",
        lower_when="If accuracy on pairs falls.",
    )

    def recommend_batch_size(self) -> Derived | None:
        return OF_PAIRS

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        return _refuse_pairs(run)


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
        None, "Reference model, near which the policy must stay: a run folder, a model folder, or a hub id.",
        source="DPO, Rafailov et al., https://arxiv.org/abs/2305.18290: the model that training starts from",
        advice="Leave it empty. Another model must have the same tokenizer.",
        empty=Empty("the model that training starts from"), resolve=resolve_path,
    )
    reference_mode: ReferenceMode | None = knob(
        None,
        "Form of the reference: the model without its adapter, a frozen copy, or log-probabilities that are computed "
        "once and cached.",
        source="TRL's precompute_ref_log_probs and its PEFT path; ours: the three ways give the same numbers, tested",
        advice="Leave it empty; precomputed for several epochs of full fine-tuning.",
        empty=Empty(MODE_WORDS, derive_mode),
        interacts={"stage.reference": "another model needs copy or precomputed"},
        memory="copy needs a second copy of the model; adapter and precomputed do not.",
        time="precomputed saves one forward pass in each epoch after the first.",
    )

    def get_factor(self) -> float:
        """Returns the factor on log ratios that makes them rewards."""
        return float(getattr(self, "beta", 1.0))

    def recommend_batch_size(self) -> Derived | None:
        return OF_PAIRS

    def has_reference(self, adapter: bool) -> bool:
        return self.reference_mode is ReferenceMode.copy

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        return _refuse_reference(self) or _refuse_pairs(run)


@option("stage", "dpo")
@dataclass(slots=True)
class Dpo(PreferenceStage):
    """Direct Preference Optimization and its variants: learns from pairs which answer is better. After SFT."""

    works_on_shards: ClassVar[bool] = True
    costs: ClassVar[str] = "Two answers per pair, and passes of the reference; no second model with an adapter."
    misread: ClassVar[str] = (
        "DPO is Direct Preference Optimization. It is not differential privacy, as some texts claim: that is "
        "privacy=dp_sgd."
    )

    losses: ClassVar[str] = pairwise.FAMILY
    plots: ClassVar[bool] = True

    loss: str = knob(
        "sigmoid", "Loss; each has its own beta and its own parameters.",
        source="loss/preference.py names each paper and equation; index of papers: "
        "https://huggingface.co/docs/trl/paper_index",
        advice="sigmoid first. ipo if it over-fits, robust if labels are noisy, nca_pair or apo_zero if chosen answers "
        "get less likely, simpo or orpo without a reference. aot sorts the margins of the whole optimizer step.",
        values=pairwise.list_names,
    )
    beta: float | None = knob(
        None,
        "Strength of the penalty for moving away from the reference model; in hinge and ipo the inverse of a margin.",
        source="The loss's paper, as fulgurite/stage/preference_table.py lists it: "
        "https://huggingface.co/docs/trl/paper_index",
        bounds=above(0), usual=pairwise.find_usual_beta,
        advice="Leave it empty first: each loss has its own scale.",
        empty=Empty("the value of the loss's paper; none in orpo, which has stage.orpo_weight", derive_beta),
        raise_when="If answers drift, repeat or get too long.",
        lower_when="If nothing changes: the margin stays near 0.",
        interacts={
            "stage.loss": "each loss has its own scale of beta",
            "optim.lr": "a lower beta needs a lower rate",
            "stage.length_normalize": "means per token need about 5 instead of 0.1",
        },
        misread="The betas of two losses cannot be compared: 2 is low in simpo and very high in sigmoid.",
    )
    orpo_weight: float | None = knob(
        None, "Weight of ORPO's odds-ratio term beside the chosen answer's negative log-likelihood.",
        source="ORPO's λ, https://arxiv.org/abs/2403.07691: 0.1 (verified); TRL's beta of ORPOConfig",
        bounds=above(0), usual=between(0.05, 0.2),
        advice="0.1 first.",
        empty=Empty("0.1 in orpo; the other losses do not use it", derive_orpo_weight),
        raise_when="If the rejected answers stay as likely as the chosen ones.",
        lower_when="If the text degenerates.",
        interacts={"stage.loss": "used only by orpo", "stage.sft_weight": "the weight of the other term"},
    )
    label_smoothing: float | None = knob(
        None, "Share of pairs whose label is assumed to be wrong.",
        source="cDPO (Mitchell's note, 2023); rDPO, https://arxiv.org/abs/2403.00409; "
        "EXO, https://arxiv.org/abs/2402.00856",
        bounds=below(0, 0.5), usual=between(0, 0.3),
        advice="0.1 for labels that people made quickly.",
        empty=derive_from_loss(
            "smoothing", message("no smoothing"), message("the smoothing"),
            "the value of the loss's paper; no smoothing if a loss has none",
        ),
        raise_when="If labels are noisy: your estimate of the share that is wrong.",
        lower_when="If labels are reliable: 0.",
        interacts={"stage.loss": "used by sigmoid, robust, exo_pair, aot, simpo and cpo"},
    )
    gamma: float | None = knob(
        None, "SimPO's margin: by how much the chosen answer must win, in beta times mean log-probability.",
        source="SimPO, https://arxiv.org/abs/2405.14734: gamma / beta 0 to 1, the authors' runs 0.1 to 0.8 (verified)",
        bounds=at_least(0), usual=pairwise.find_usual_gamma,
        advice="Tune gamma / beta from 0.5; never above beta.",
        empty=Empty("half of stage.beta in simpo; the other losses have none", derive_gamma),
        raise_when="If chosen and rejected answers stay too close.", lower_when="If the text degenerates.",
        interacts={"stage.beta": "tune the ratio gamma / beta"},
    )
    tau: float | None = knob(
        None,
        "DiscoPOP's temperature: how sharply it changes from the logistic to the exponential loss at a margin of 0.",
        source="DiscoPOP, https://arxiv.org/abs/2406.08414: 0.05 (verified); its slope at 0 is ours, by hand",
        bounds=above(0), usual=between(0.01, 1),
        advice="0.2 to 0.5: below 0.1 the loss has a minimum just below a margin of 0, in which a run can stay.",
        empty=derive_from_loss(
            "tau", message("no temperature"), message("the temperature"),
            "the value of the loss's paper; no temperature if a loss has none",
        ),
        raise_when="If train/accuracy stays below one half: 0.2 to 0.5.", lower_when="For the published form: 0.05.",
        interacts={"stage.beta": "the mixture depends on beta times the margin"},
    )
    sft_weight: float | None = knob(
        None, "Weight of the chosen answer's negative log-likelihood (a mean over its tokens) beside the loss.",
        source="RPO 0.005, IRPO 1, MPO 1, CPO 1 (verified); Llama 3 0.2 (unverified)", bounds=at_least(0),
        usual=between(0, 1), advice="Leave it empty first.",
        empty=derive_from_loss(
            "sft_weight", message("no such term"), message("the weight of this term"),
            "the value of the loss's paper; no such term if a loss has none",
        ),
        raise_when="If the chosen answer's log-probability falls and samples get worse: 0.2 to 1.",
        lower_when="If the margin no longer grows.",
        interacts={"stage.loss": "1 by default in orpo and cpo"},
        misread="TRL's orpo and cpo use one mean over all tokens of a micro-batch, in orpo with the prompts. Here each "
        "chosen answer has its own mean, without its prompt, so that its length does not change its weight.",
    )
    length_normalize: bool | None = knob(
        None, "Whether log ratios are means over an answer's tokens instead of sums; for the losses sigmoid and ipo.",
        source="Tülu 3, https://arxiv.org/abs/2411.15124; TRL's sigmoid_norm; ipo: "
        "TRL uses means, on the advice of its authors (verified)",
        advice="true if longer answers win because of their length; the default of stage.beta is then 5, not 0.1. "
        "false "
        "with ipo is equation 17 of the paper, with summed log-probabilities.",
        empty=Empty("true in ipo, false in sigmoid; the other losses do not use it", derive_length_normalize),
        interacts={"stage.beta": "needs about 5 instead of 0.1", "stage.loss": "used by sigmoid and ipo"},
    )

    def get_factor(self) -> float:
        """Returns the factor on log ratios: stage.beta, and in orpo stage.orpo_weight."""
        found = pairwise.get_row(self.loss, self.length_normalize)
        value: float | None = getattr(self, found.weight)
        return found.beta if value is None else value

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        found, loss = get_loss(run), str(self.loss)
        if self.beta is not None and found.weight != "beta":
            return message(
                "stage.loss={loss} does not use stage.beta; write stage.{weight}={beta:g}.",
                loss=loss, weight=found.weight, beta=self.beta,
            )
        if self.orpo_weight is not None and found.weight != "orpo_weight":
            return message(
                "stage.loss={loss} does not use stage.orpo_weight={value:g}; leave it out, or use stage.loss=orpo.",
                loss=loss, value=self.orpo_weight,
            )
        if self.reference and self.reference.startswith(("/", ".", "~")) and not is_there(self.reference):
            return message(
                "stage.reference={reference}: there is no such folder; give a model folder, or leave it out.",
                reference=self.reference,
            )
        for knob_name, name, value in (
            ("label_smoothing", "smoothing", self.label_smoothing), ("gamma", "gamma_share", self.gamma),
            ("tau", "tau", self.tau),
        ):
            if value is not None and getattr(found, name) is None:
                return message(
                    "stage.loss={loss} does not use stage.{name}={value:g}, only these losses do: {losses}; leave it "
                    "out, or use one of them.",
                    loss=loss, name=knob_name, value=value, losses=", ".join(pairwise.list_reading(name)),
                )
        if self.length_normalize is not None and not found.normalizes:
            facts = {"given": str(self.length_normalize).lower(), "loss": loss,
                "losses": ", ".join(pairwise.list_normalizing())}
            if found.averaged:
                return message(
                    "stage.length_normalize={given} is only for the losses {losses}, and stage.loss={loss} divides by "
                    "the lengths anyway; leave it out.", **facts,
                )
            return message(
                "stage.length_normalize={given} is only for the losses {losses}, and stage.loss={loss} does not use "
                "it; "
                "leave it out.", **facts,
            )
        if found.log_smoothing and self.label_smoothing == 0:
            return message(
                "stage.label_smoothing=0 is not possible with stage.loss={loss}, which uses its logarithm; use 0.001.",
                loss=loss,
            )
        if not found.reference and (self.reference is not None or self.reference_mode is not None):
            return message(
                "stage.loss={loss} has no reference: leave stage.reference and stage.reference_mode out, or use "
                "stage.loss=sigmoid.",
                loss=loss,
            )
        return _refuse_reference(self) or _refuse_pairs(run)


@option("stage", "kto")
@dataclass(slots=True)
class Kto(PreferenceStage):
    """Kahneman-Tversky optimization: learns from single answers, each marked good or bad. If you have no pairs. After
    SFT."""

    builds: ClassVar[str] = "fulgurite.stage.preference:KtoStage"
    works_on_shards: ClassVar[bool] = True
    costs: ClassVar[str] = "Per example its answer, another one for the baseline, and the reference."
    reads: ClassVar[Reads] = JUDGED
    sides: ClassVar[int] = 1
    judged: ClassVar[bool] = True
    lr_like: ClassVar[str] = "kto"
    fewest: ClassVar[int] = 16
    misread: ClassVar[str] = "KTO is Kahneman-Tversky optimization. It needs no pairs."

    reference_mode: ReferenceMode | None = knob(
        None, "Form of the reference: the model without its adapter, or a frozen copy.",
        source="TRL's PEFT path; ours: both give the same numbers, tested",
        advice="Leave it empty. precomputed is not possible: the baseline needs other pairs in each step.",
        empty=Empty(MODE_WORDS, derive_kto_mode),
    )
    beta: float = knob(
        0.1, "Strength of the penalty for moving away from the reference model.",
        source="KTO, https://arxiv.org/abs/2402.01306: 0.1 (verified)", bounds=above(0), usual=between(0.05, 0.5),
        advice="0.1 first.",
        raise_when="If answers drift or repeat.", lower_when="If nothing changes.",
        interacts={"optim.lr": "a lower beta needs a lower rate"},
    )
    desirable_weight: float = knob(
        1.0, "Weight of good answers.", source="KTO, https://arxiv.org/abs/2402.01306; TRL's desirable_weight",
        bounds=above(0), usual=between(0.5, 4),
        advice="Weight times count of good answers to weight times count of bad ones: between 1:1 and 4:3.",
        raise_when="If there are fewer good answers than bad ones.",
        lower_when="If there are more good answers than bad ones.",
        interacts={"stage.undesirable_weight": "weight times count should be near 1:1 to 4:3"},
    )
    undesirable_weight: float = knob(
        1.0, "Weight of bad answers.", source="KTO, https://arxiv.org/abs/2402.01306; TRL's undesirable_weight",
        bounds=above(0), usual=between(0.5, 4),
        advice="See stage.desirable_weight.",
        raise_when="If there are fewer bad answers than good ones.",
        lower_when="If there are more bad answers than good ones.",
        interacts={"stage.desirable_weight": "weight times count should be near 1:1 to 4:3"},
    )

    def recommend_batch_size(self) -> Derived | None:
        return Derived(32, message("KTO's baseline needs 16 to 128 (TRL's KTO page)"))

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        if self.reference_mode is ReferenceMode.precomputed:
            return message(
                "stage.reference_mode=precomputed is not possible with stage={stage}: its baseline needs other pairs "
                "in "
                "each step; use stage.reference_mode=copy.",
                stage=self.name,
            )
        return _refuse_reference(self) or _refuse_pairs(run)


def _refuse_reference(stage: PreferenceStage) -> UserMessage | None:
    if stage.reference is not None and stage.reference_mode is ReferenceMode.adapter:
        return message(
            "stage.reference_mode=adapter is the model that training starts from; with stage.reference use "
            "stage.reference_mode=copy or precomputed."
        )
    return None


def _refuse_pairs(run: RunConfig) -> UserMessage | None:
    """Refuses parameters of the data that do not go with comparing answers."""
    if run.data.packing is not None and str(run.data.packing) != "none":
        return message(
            "data.packing={packing} is not possible with stage={stage}: answers are compared one by one; leave it out.",
            packing=run.data.packing, stage=run.stage.name,
        )
    if str(run.data.mask) == "all":
        return message(
            "data.mask=all is not possible with stage={stage}: only the last answers are compared; leave it out.",
            stage=run.stage.name,
        )
    return None
