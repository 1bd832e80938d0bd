"""What every dataset has: how examples are cut, masked, packed and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Derived, Empty, Option, Range, at_least, below, between, knob
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig


class Format(DescribedEnum):
    """The format of a record."""

    auto = "auto", "Detected from the fields of the first records."
    alpaca = "alpaca", "instruction, input, output."
    sharegpt = "sharegpt", "conversations, a list of from and value."
    openai = "openai", "messages, a list of role and content."
    text = "text", "Running text, without questions and answers."
    prompts = "prompts", "Prompts without answers, for ppo and grpo."
    preference = "preference", "A better and a worse answer to one prompt: chosen and rejected."
    kto = "kto", "An answer and whether it is good: label."


RESERVED = frozenset({
    "messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize",
    "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
    "tokenizer_kwargs",
})
"""Arguments of `apply_chat_template` that Fulgurite sets, or that come from the conversation."""


class SpecialTokens(DescribedEnum):
    """The treatment of the text of a special token in a record."""

    escape = "escape", "The text is kept as plain text: the model reads letters, not the special token."
    keep = "keep", "The text becomes the special token itself; only for data that you wrote or checked yourself."
    drop = "drop", "The record is left out and counted in data_report.json."


class TooLong(DescribedEnum):
    """The treatment of an example longer than `data.max_length`."""

    drop = "drop", "The example is left out and counted in data_report.json."
    truncate = "truncate", "The example is cut at data.max_length; an answer may lose its end."
    error = "error", "The run stops before the first step and names the example."


class Mask(DescribedEnum):
    """The tokens that are learned."""

    answers = "answers", "Every answer of a conversation is learned; prompts and system messages are only read."
    last = "last", "Only the last answer of a conversation is learned; earlier answers are only read."
    all = "all", "Every token is learned, prompts included."


class Packing(DescribedEnum):
    """Whether several examples share a row."""

    none = "none", "One example in each row, padded to the longest row of its micro-batch."
    best_fit = "best_fit", "Several examples share a row up to data.max_length; they do not see each other."


PIECE = {"cpu": 1024, "cuda": 4096}
"""Default tokens of a pre-training row, by device: ours, for memory."""


def _derive_max_length(run: RunConfig, facts: Facts) -> Derived:
    # Round up to a multiple of 64, which suits the hardware.
    top = facts.percentile_99
    rounded = max(8, -(-top // 64) * 64)
    piece = PIECE.get(facts.device, 1024)
    if run.stage.reads.prompts:
        room = max(8, facts.model_length - run.stage.max_new_tokens)
        if rounded > room:
            return Derived(
                room,
                message(
                    "the model's maximum length less stage.max_new_tokens; the 99th percentile of the prompts is "
                    "{tokens} tokens",
                    tokens=top,
                ),
            )
        return Derived(
            rounded,
            message(
                "the 99th percentile of the prompts, {tokens} tokens, rounded up to a multiple of 64; answers are not "
                "included",
                tokens=top,
            ),
        )
    if run.stage.reads.running_text and min(rounded, facts.model_length) > piece:
        return Derived(
            piece,
            message(
                "rows of {tokens} tokens suit device {device}; longer documents are cut into pieces, and no text is "
                "lost",
                tokens=piece, device=facts.device,
            ),
        )
    if rounded > facts.model_length:
        return Derived(
            facts.model_length,
            message(
                "the model's maximum length; the 99th percentile of the data, {tokens} tokens, is larger", tokens=top
            ),
        )
    return Derived(
        rounded,
        message("the 99th percentile of the data, {tokens} tokens, rounded up to a multiple of 64", tokens=top),
    )


def _derive_packing(run: RunConfig, facts: Facts) -> Derived:
    if run.private:
        return Derived(Packing.none, message("differential privacy protects one row, which must be one example"))
    if run.stage.reads.running_text:
        return Derived(Packing.best_fit, message("pre-training rows are cut from running text: packing avoids padding"))
    return Derived(
        Packing.none, message("a micro-batch has examples of similar length, so packing would save little padding")
    )


@dataclass(slots=True)
class Data(Option):
    """What every dataset has."""

    builds: ClassVar[str] = "fulgurite.data.build:build_source"
    shipped: ClassVar[tuple[str, str]] = ("", "")
    """The shipped files to train on and to validate with, in fulgurite/data/guide;
    empty if the option has none, or splits a share off."""
    shipped_format: ClassVar[Format] = Format.openai
    conversations: ClassVar[bool] = False
    """Whether it is the shipped guide, whose fixed questions are the prompts of samples."""

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of the chat template, besides messages and tools."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**self.template_arguments, **thinking}

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Returns the error for an argument of the template that Fulgurite sets, or that is set twice; or None."""
        for name in sorted(self.template_arguments):
            if name in RESERVED:
                return message(
                    "data.template_arguments may not contain {name}, which Fulgurite sets for each conversation; leave "
                    "it out.",
                    name=name,
                )
            if not name.isidentifier():
                return message(
                    "data.template_arguments contains {name!r}, which is not a valid argument name; use letters, "
                    "digits and _ only.",
                    name=name,
                )
        given = self.template_arguments.get("enable_thinking", self.enable_thinking)
        if self.enable_thinking is not None and given != self.enable_thinking:
            return message(
                "data.enable_thinking={value} and data.template_arguments contradict each other; leave one out.",
                value=self.enable_thinking,
            )
        return None

    max_length: int | None = knob(
        None, "Maximum length of an example in tokens. data.too_long decides what happens to longer ones.",
        source="The 99th percentile rule: ours, after LLaMA-Factory's counting script; "
        "TRL warns that a small value loses tokens",
        bounds=at_least(8), usual=Range(128, 8192),
        advice="Usually leave it empty: few examples are longer than the 99th percentile.",
        empty=Empty(
            "the 99th percentile of the data, rounded up to a multiple of 64, at most the model's maximum length; "
            "1024 (CPU) or 4096 for running text",
            _derive_max_length, "data",
        ),
        raise_when="When many examples are dropped.", lower_when="When memory or time is short.",
        interacts={"trainer.micro_batch_size": "shorter examples allow a larger micro-batch",
            "data.too_long": "what happens to longer examples"},
        memory="Activations grow in proportion; logits too, up to a chunk.",
        time="Grows more than in proportion: attention is quadratic in the length.",
    )
    too_long: TooLong = knob(
        TooLong.drop, "What happens to an example longer than data.max_length: drop it, truncate it, or stop (error).",
        source="The three ways are axolotl's (docs/dataset_preprocessing)",
        advice="Keep drop: a truncated answer teaches the model not to stop. Use error if no example may be lost. "
        "For preference data truncate cuts the beginning of the prompt, the same tokens on both sides, and never an "
        "answer.",
        interacts={"data.max_length": "the limit"},
    )
    mask: Mask = knob(
        Mask.answers, "The tokens that are learned: all answers, only the last answer, or everything.",
        source="LLaMA-Factory and TRL both train on the answers (train_on_prompt, assistant_only_loss)",
        advice="Keep answers: the model should learn what it is to say. Use all for plain text, or if prompts are few "
        "and valuable.",
    )
    packing: Packing | None = knob(
        None, "Whether several examples share a row (best_fit). They are kept separate: none attends to another.",
        source="Packing without contamination, Ding et al., https://arxiv.org/abs/2404.10830 (best fit)",
        advice="best_fit helps if lengths differ much and rows are long; it changes the number of examples in a step.",
        empty=Empty("best_fit for stage=pt, otherwise none; none with privacy=dp_sgd", _derive_packing),
        interacts={"trainer.global_batch_size": "then counts rows of several examples"},
        time="Saves padding if lengths differ.",
    )
    template: str | None = knob(
        None, "The chat template: the name of a built-in one (chatml, llama3, alpaca, ...).",
        source="HF tokenizers carry their chat template (transformers docs, chat_templating)",
        advice="Leave it empty for a chat model: quality drops if it is served with another template.",
        empty=Empty("the tokenizer's own template; chatml if it has none"),
    )
    enable_thinking: bool | None = knob(
        None,
        "Whether the chat template asks the model to reason before it answers; passed to the template as "
        "`enable_thinking`.",
        source="Qwen 3's chat template reads it; the docs of vLLM and transformers pass it on",
        advice="Set the value with which the model will be served.",
        empty=Empty("the template's own default"),
        interacts={"data.template_arguments": "sets the other arguments of the template"},
    )
    template_arguments: dict[str, Any] = knob(
        {},
        "Further arguments of the chat template, such as {reasoning_effort: low}, "
        "for training, samples, chat and rollouts.",
        source="transformers' apply_chat_template and TRL's chat_template_kwargs pass them on",
        advice="Set the values with which the model will be served (vLLM's chat_template_kwargs).",
        interacts={"data.enable_thinking": "the most common of them"},
    )
    special_tokens: SpecialTokens = knob(
        SpecialTokens.escape,
        "Treatment of the text of a special token, such as <|im_end|>, inside a record: escape encodes it as plain "
        "text, keep as the token, drop leaves the record out.",
        source="transformers has sanitize_control_tokens in apply_chat_template; by default it keeps them",
        advice="Keep escape: then a text cannot end a turn. Use keep for data with intended special tokens; an answer "
        "with an end token inside is then left out.",
        interacts={"data.template": "its tokenizer defines the special tokens"},
    )
    val_fraction: float = knob(
        0.05,
        "The share of the examples held out as the validation set: at least 20 examples, at most 1000, and never more "
        "than half.",
        source="Ours; LLaMA-Factory's form holds out nothing, so over-fitting does not show",
        bounds=below(0, 1), usual=between(0.01, 0.2),
        advice="0 only if a separate evaluation follows: without validation there is no best checkpoint.",
        raise_when="When the validation loss is noisy because few examples are held out.",
        lower_when="When there are few examples and another evaluation follows.",
        interacts={
            "trainer.eval_every": "the interval of evaluations",
            "scheduler.patience": "a plateau needs a value above 0",
        },
        time="Each evaluation reads the whole validation set.",
    )
    max_samples: int | None = knob(
        None, "Train on a seeded random sample of so many examples.",
        source="Ours: a limit that takes the first rows biases the data (read in other trainers' source)",
        bounds=at_least(1), usual=Range(10, 100_000),
        advice="A thousand examples are enough to see whether a learning rate works.",
        empty=Empty("all examples"),
        raise_when="When the small run has given its answer.",
        lower_when="To try many settings quickly.",
        interacts={"trainer.epochs": "fewer examples give fewer steps"},
        time="In proportion.",
    )
    max_drop: int = knob(
        0, "Maximum number of bad records that are left out. With more, the run stops before the model is loaded.",
        source="Ours: LLaMA-Factory issue #6185, 641,810 rows in and 577,585 trained without a word",
        bounds=at_least(0), usual=between(0, 100),
        advice="data_report.json lists each bad record.",
        raise_when="After reading data_report.json, if the bad records can be left out.",
        lower_when="When no record may be lost: 0.",
    )
    shuffle: bool = knob(
        True, "Whether each epoch has a new order of the examples, drawn from the seed and the epoch.",
        source="Common practice; the order is a function of seed and epoch so that a resumed run sees the same",
        advice="false only if the order of the data is intended (a curriculum).",
    )
