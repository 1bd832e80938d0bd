"""What is being learned: running text, answers, or which of two answers is better."""

from fulgurite.stage.config.base import GenerativeStage, Stage
from fulgurite.stage.config.language import Language, Pt, Sft
from fulgurite.stage.config.ppo import KlControl, Ppo
from fulgurite.stage.config.preference import Dpo, Kto, PreferenceStage, Rm
from fulgurite.stage.config.rollout import Engine, Grpo, GrpoLoss, Policy

__all__ = [
    "Dpo",
    "Engine",
    "GenerativeStage",
    "Grpo",
    "GrpoLoss",
    "KlControl",
    "Kto",
    "Language",
    "Policy",
    "Ppo",
    "PreferenceStage",
    "Pt",
    "Rm",
    "Sft",
    "Stage",
]
