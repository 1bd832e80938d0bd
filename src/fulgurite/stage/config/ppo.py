"""`stage=ppo`: proximal policy optimisation with a critic, and how its KL penalty is controlled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Derived, Range, above, at_least, between, knob, list_knobs, option
from fulgurite.language.message import UserMessage, message
from fulgurite.stage.config.rollout import Policy

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


class KlControl(DescribedEnum):
    """How the coefficient of the KL penalty changes."""

    fixed = "fixed", "stage.kl_coefficient stays the same."
    adaptive = "adaptive", "The coefficient is raised or lowered to keep the divergence near its target."


@option("stage", "ppo")
@dataclass(slots=True)
class Ppo(Policy):
    """Proximal policy optimisation: one answer per prompt, and a value head that estimates the reward at each token.

    The last resort: it needs a policy, a reference, a value and a reward, and has the most settings to get wrong; try
    stage=dpo and stage=grpo first. The value is a linear head on the policy's own last states.
    trainer.global_batch_size is the number of prompts of a rollout, and val/loss is minus the mean reward on held-out
    prompts. Use scheduler=constant_with_warmup. One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.ppo:PpoStage"
    lr_like: ClassVar[str] = "ppo"
    value_head: ClassVar[bool] = True
    costs: ClassVar[str] = "Generation, a reference, a value head, and the most settings to get wrong."
    misread: ClassVar[str] = (
        "It is no longer the usual third step: stage=dpo needs no reward model and no generation."
    )

    clip_high: float = knob(
        0.2, "How far above 1 the probability ratio of a token may rise before its gradient is clipped.",
        source="PPO, Schulman et al., https://arxiv.org/abs/1707.06347; TRL 0.2 (verified)",
        bounds=at_least(0), usual=between(0.1, 0.3), advice="0.2 first.",
        raise_when="If entropy falls and answers become alike: 0.28 (DAPO).", lower_when="If training is unstable.",
        interacts={"stage.clip_low": "the other side"},
    )
    kl_coefficient: float = knob(
        0.05, "Weight of the penalty for each token's divergence from the model at the start, in units of the reward.",
        source="TRL and Tülu 3 0.05, torchtune 0.01 (verified)", bounds=at_least(0), usual=between(0.01, 0.1),
        advice="0.05 first.",
        raise_when="If train/kl grows without end or the text degenerates.", lower_when="If nothing changes.",
        interacts={"stage.kl_control": "adaptive changes it during the run"},
    )
    kl_control: KlControl = knob(
        KlControl.fixed, "Whether stage.kl_coefficient is fixed, or follows stage.kl_target.",
        source="Ziegler et al., https://arxiv.org/abs/1909.08593, section 2.2; TRL's PPO is fixed",
        advice="fixed first: one number to understand.",
        interacts={"stage.kl_target": "used only with adaptive", "stage.kl_coefficient": "the first value"},
    )
    kl_target: float = knob(
        6.0, "With kl_control=adaptive: target of the divergence of an answer, in nats.",
        source="Ziegler et al., https://arxiv.org/abs/1909.08593: 6 to 10", bounds=above(0), usual=between(1, 10),
        advice="6 first.",
        raise_when="If nothing changes.", lower_when="To stay closer to the model at the start.",
        interacts={
            "stage.kl_control": "used only with adaptive",
            "stage.max_new_tokens": "it is per answer: longer answers diverge more",
        },
    )
    kl_horizon: int = knob(
        10_000, "With kl_control=adaptive: number of answers over which the coefficient changes by a fifth if it is "
        "far "
        "from the target.",
        source="openai/lm-human-preferences, horizon 10000", bounds=at_least(1), usual=Range(100, 100_000),
        advice="10,000 in long runs.",
        sure=Sure.practice,
        raise_when="If the coefficient oscillates.", lower_when="In short runs.",
        interacts={"stage.kl_target": "the target"},
    )
    gamma_discount: float = knob(
        1.0, "Discount factor of a reward per token (gamma).", source="TRL and torchtune 1.0 (verified)",
        bounds=between(0, 1), usual=between(0.99, 1), advice="Leave it.",
        leave="Texts are short episodes with the reward at the end.",
        interacts={"stage.gae_lambda": "both shorten the credit assignment"},
    )
    gae_lambda: float = knob(
        0.95, "Weight of observed rewards against the estimates of the value head in advantages (lambda).",
        source="GAE, https://arxiv.org/abs/1506.02438; TRL and torchtune 0.95 (verified)",
        bounds=between(0, 1), usual=between(0.9, 1), advice="0.95 first.",
        raise_when="If the value head has learned nothing yet: 1.", lower_when="If advantages are noisy.",
        interacts={"stage.gamma_discount": "both shorten the credit assignment"},
    )
    vf_coef: float = knob(
        0.1, "Weight of the value head's loss beside the policy's.", source="TRL and torchtune 0.1 (verified)",
        bounds=at_least(0), usual=between(0.1, 1),
        advice="0.1 first.",
        raise_when="If the value's loss stays high.",
        lower_when="If the text gets worse: the head shares the policy's layers.",
        interacts={"optim.lr": "scales the updates of both losses"},
    )
    value_clip: float = knob(
        0.2, "How far a value may move from its value at the rollout before its gradient is clipped.",
        source="PPO's code, https://arxiv.org/abs/2403.17031; TRL 0.2 (verified)", bounds=above(0),
        usual=between(0.1, 0.3),
        advice="0.2 for rewards of about 1.",
        raise_when="If rewards are large.", lower_when="If the value's loss spikes.",
        interacts={"stage.whiten_rewards": "scales rewards to 1"},
    )
    whiten_rewards: bool = knob(
        False, "Whether the rewards of tokens are scaled to variance 1 over a rollout.", source="TRL false (verified)",
        advice="true if the size of rewards differs much from rollout to rollout.",
    )
    whiten_advantages: bool = knob(
        True, "Whether advantages are scaled to mean 0 and variance 1 over a rollout.",
        source="TRL, https://arxiv.org/abs/2403.17031 (detail 18)",
        advice="Leave it.",
    )
    missing_eos_penalty: float = knob(
        1.0, "Penalty for an answer that reaches stage.max_new_tokens.",
        source="TRL's missing_eos_penalty, there empty; 1.0 is ours",
        bounds=at_least(0), usual=between(0, 2),
        advice="1: without it, unfinished answers get a random score.",
        raise_when="If answers do not end.", lower_when="If answers need not end: 0.",
        interacts={
            "stage.reward": "must have a similar size", "stage.max_new_tokens": "the length at which answers are cut",
        },
    )

    def recommend_batch_size(self) -> Derived | None:
        return Derived(
            64, message("64 prompts per rollout (64 to 512 are usual; torchtune 128): fewer make noisy advantages")
        )

    def is_reference_needed(self) -> bool:
        return True

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses parameters that a fixed coefficient does not use, then what every policy stage refuses."""
        if self.kl_control is KlControl.fixed:
            for knob in list_knobs(Ppo):
                value = getattr(self, knob.name)
                if knob.name in ("kl_target", "kl_horizon") and value != knob.default:
                    return message(
                        "stage.kl_control=fixed does not use stage.{name}={value:g}; leave it out, or use "
                        "stage.kl_control=adaptive.",
                        name=knob.name, value=value,
                    )
        return Policy.find_refusal(self, run)
