"""The shipped datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import option
from fulgurite.data.config.base import Data, Format


@option("data", "guide")
@dataclass(slots=True)
class Guide(Data):
    """The shipped dataset: questions and answers about fine-tuning parameters. For a first run and for tests."""

    shipped: ClassVar[tuple[str, str]] = ("train.jsonl", "heldout.jsonl")
    conversations: ClassVar[bool] = True
    costs: ClassVar[str] = "Nothing: it is included."


@option("data", "guide_preference")
@dataclass(slots=True)
class GuidePreference(Guide):
    """The shipped pairs: 64 questions on the guide's subject, each with a correct answer and a wrong or empty one,
    written by hand.

    For a first run of stage=dpo or stage=rm and for tests. It teaches only that fluent but wrong text is worse.
    """

    shipped: ClassVar[tuple[str, str]] = ("preference.jsonl", "")
    shipped_format: ClassVar[Format] = Format.preference
    costs: ClassVar[str] = "Nothing: it is included."


@option("data", "guide_prompts")
@dataclass(slots=True)
class GuidePrompts(Data):
    """The shipped prompts: 99 small calculations about fine-tuning, and 33 for validation, each with its answer in the
    column `answer`.

    For stage=grpo and stage=ppo: `stage.reward=["match:answer"]` rewards only the correct answer. The column `kind` is
    the kind of calculation.
    """

    shipped: ClassVar[tuple[str, str]] = ("prompts.jsonl", "prompts_heldout.jsonl")
    shipped_format: ClassVar[Format] = Format.prompts
    costs: ClassVar[str] = "Nothing: it is included."


@option("data", "guide_form")
@dataclass(slots=True)
class GuideForm(Data):
    """The shipped calculations as pairs: the answer in the requested form, and the same answer in a sentence. 99 pairs,
    and 33 for validation.

    A preference that a reward model can learn completely: for a first run of stage=rm, dpo and kto. It teaches a form,
    not facts.
    """

    shipped: ClassVar[tuple[str, str]] = ("form.jsonl", "form_heldout.jsonl")
    shipped_format: ClassVar[Format] = Format.preference
    costs: ClassVar[str] = "Nothing: it is included."
