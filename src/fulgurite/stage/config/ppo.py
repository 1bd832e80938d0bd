"""`stage=ppo`: proximal policy optimisation with a critic, and how its KL penalty is controlled."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.schema import Derived, Range, above, at_least, between, knob, list_knobs, option
from fulgurite.stage.config.rollout import Policy

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


class KlControl(StrEnum):
    """How the coefficient of the divergence moves."""

    fixed = "fixed"
    adaptive = "adaptive"


@option("stage", "ppo")
@dataclass(slots=True)
class Ppo(Policy):
    """Proximal policy optimisation: one answer a prompt, and a value head that says token by
    token what was to be expected.

    The last resort: a policy, a reference, a value and a reward, and most settings to get wrong;
    stage=dpo and stage=grpo do most of it. The value is a linear head on the policy's own last states.
    trainer.global_batch_size counts the prompts of a rollout, and val/loss is minus the mean reward on held-out
    prompts. Take scheduler=constant_with_warmup. One optimizer step is one minibatch of a rollout.
    """

    builds: ClassVar[str] = "fulgurite.stage.ppo:PpoStage"
    lr_like: ClassVar[str] = "ppo"
    value_head: ClassVar[bool] = True
    costs: ClassVar[str] = "Generation, a reference, a value head, and most settings to get wrong."
    misread: ClassVar[str] = (
        "It is not the usual third step any more: stage=dpo needs no reward model and no generation."
    )

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
        bounds=at_least(0), usual=between(0.1, 1),
        advice="Lower it when the text suffers: the head shares the policy's layers.",
        raise_when="When the value's loss stays high.",
        lower_when="When the text suffers: the head shares the policy's layers.",
        interacts={"optim.lr": "scales both losses' steps"},
    )
    value_clip: float = knob(
        0.2, "How far a value may move from where it was at the rollout before it is no longer pushed.",
        source="PPO's code, https://arxiv.org/abs/2403.17031; TRL 0.2 (verified)", bounds=above(0),
        usual=between(0.1, 0.3),
        advice="Raise it when rewards are large.",
        raise_when="When rewards are large.", lower_when="When the value's loss spikes.",
        interacts={"stage.whiten_rewards": "brings rewards to size 1"},
    )
    whiten_rewards: bool = knob(
        False, "Whether the tokens' rewards get variance 1 over a rollout.", source="TRL false (verified)",
        advice="true when rewards are of very unequal size from rollout to rollout.",
    )
    whiten_advantages: bool = knob(
        True, "Whether advantages get mean 0 and variance 1 over a rollout.",
        source="TRL, https://arxiv.org/abs/2403.17031 (detail 18)",
        advice="Leave it.",
    )
    missing_eos_penalty: float = knob(
        1.0, "What an answer that hits stage.max_new_tokens loses.",
        source="TRL's missing_eos_penalty, there empty; 1.0 is ours",
        bounds=at_least(0), usual=between(0, 2),
        advice="0 where an end is not wanted; otherwise unfinished answers score by luck.",
        raise_when="When answers do not end.", lower_when="Where an end is not wanted: 0.",
        interacts={"stage.reward": "must be of like size", "stage.max_new_tokens": "what is cut"},
    )

    def recommend_batch_size(self) -> Derived | None:
        return Derived(64, "64 prompts a rollout (64 to 512 are usual; torchtune 128): fewer make noisy advantages")

    def is_reference_needed(self) -> bool:
        return True

    def find_refusal(self, run: RunConfig) -> str | None:
        """What a fixed coefficient does not read, then what every policy stage refuses."""
        if self.kl_control is KlControl.fixed:
            for knob in list_knobs(Ppo):
                value = getattr(self, knob.name)
                if knob.name in ("kl_target", "kl_horizon") and value != knob.default:
                    return (
                        f"stage.{knob.name}={value:g} is not read under stage.kl_control=fixed; leave it out, or take "
                        "stage.kl_control=adaptive."
                    )
        return Policy.find_refusal(self, run)
