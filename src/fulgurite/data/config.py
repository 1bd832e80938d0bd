"""What a data set is: where it lies, how it is read, cut, masked, packed and split."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from fulgurite.config.paths import resolve_pattern
from fulgurite.config.schema import Derived, Empty, Option, Range, at_least, below, between, knob, option

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig


class Format(StrEnum):
    """How a record says what it holds."""

    auto = "auto"
    alpaca = "alpaca"
    sharegpt = "sharegpt"
    openai = "openai"
    text = "text"
    prompts = "prompts"
    preference = "preference"
    kto = "kto"


RESERVED = frozenset({
    "messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize",
    "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
    "tokenizer_kwargs",
})
"""Arguments of `apply_chat_template` that are not the template's own, or are the conversation's."""


class SpecialTokens(StrEnum):
    """What happens to the text of a special token that stands in a record."""

    escape = "escape"
    keep = "keep"
    drop = "drop"


class TooLong(StrEnum):
    """What happens to an example longer than `data.max_length`."""

    drop = "drop"
    truncate = "truncate"
    error = "error"


class Mask(StrEnum):
    """Which tokens are learned."""

    answers = "answers"
    last = "last"
    all = "all"


class Packing(StrEnum):
    """Whether several examples share a row."""

    none = "none"
    best_fit = "best_fit"


PIECE = {"cpu": 1024, "cuda": 4096}
"""Tokens of a pre-training row where nothing is said: ours, for memory."""


def _derive_max_length(run: RunConfig, facts: Facts) -> Derived:
    top = facts.percentile_99
    rounded = max(8, -(-top // 64) * 64)
    piece = PIECE.get(facts.device, 1024)
    if run.stage.reads.prompts:
        room = max(8, facts.model_length - run.stage.max_new_tokens)
        if rounded > room:
            return Derived(
                room, f"the model's own limit less stage.max_new_tokens; the 99th percentile of the prompts is {top}"
            )
        return Derived(
            rounded, f"the 99th percentile of the prompts, {top} tokens, rounded up to 64; answers come on top"
        )
    if run.stage.reads.running_text and min(rounded, facts.model_length) > piece:
        return Derived(
            piece,
            f"rows of {piece} tokens suit this {facts.device}; longer documents are cut into pieces, "
            "and nothing is lost",
        )
    if rounded > facts.model_length:
        return Derived(
            facts.model_length, f"the model's own limit; the 99th percentile of the data, {top}, is beyond it"
        )
    return Derived(rounded, f"the 99th percentile of the data, {top} tokens, rounded up to 64")


def _derive_packing(run: RunConfig, facts: Facts) -> Derived:
    if run.private:
        return Derived(Packing.none, "privacy protects one row, which must be one example")
    if run.stage.reads.running_text:
        return Derived(Packing.best_fit, "pre-training rows are cut from running text: packing wastes no padding")
    return Derived(Packing.none, "micro-batches are cut by length already, so that little padding is left to save")


@dataclass(slots=True)
class Data(Option):
    """What every data set has."""

    builds: ClassVar[str] = "fulgurite.data.source:build_source"
    shipped: ClassVar[tuple[str, str]] = ("", "")
    """The shipped files to train on and to validate with, in fulgurite/data/guide;
    empty if the option has none, or splits a share off."""
    shipped_format: ClassVar[Format] = Format.openai
    conversations: ClassVar[bool] = False
    """Whether it is the shipped guide, whose fixed questions are the prompts of samples."""

    def arguments(self) -> dict[str, Any]:
        """What the chat template is called with, besides messages and tools."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**self.template_arguments, **thinking}

    def find_refusal(self, run: RunConfig) -> str | None:
        """An argument of the template that is Fulgurite's to give, or that is given twice."""
        for name in sorted(self.template_arguments):
            if name in RESERVED:
                return (
                    f"data.template_arguments may not have {name}, which is given for each conversation; leave it out."
                )
            if not name.isidentifier():
                return (
                    f"data.template_arguments has {name!r}, which is no name of an argument; "
                    "write it with letters, digits and _."
                )
        told = self.template_arguments.get("enable_thinking", self.enable_thinking)
        if self.enable_thinking is not None and told != self.enable_thinking:
            return (
                f"data.enable_thinking={self.enable_thinking} and data.template_arguments say different things; "
                "leave one out."
            )
        return None

    max_length: int | None = knob(
        None, "The longest example in tokens; longer ones are handled as data.too_long says.",
        source="The 99th percentile rule: ours, after LLaMA-Factory's counting script; "
        "TRL warns that a small value loses tokens",
        bounds=at_least(8), usual=Range(128, 8192),
        advice="Raise it when many examples are dropped; lower it when memory or time is short. Cost grows with it.",
        empty=Empty(
            "the 99th percentile of the data, rounded up to 64, at most what the model can read; "
            "running text in pieces of 1024 (CPU) or 4096",
            _derive_max_length, "data",
        ),
        raise_when="When many examples are dropped.", lower_when="When memory or time is short.",
        interacts={"trainer.micro_batch_size": "shorter rows leave room for more of them",
            "data.too_long": "what happens to longer examples"},
        memory="Activations grow in proportion; logits too, up to a chunk.",
        time="More than in proportion: attention grows with the square.",
    )
    too_long: TooLong = knob(
        TooLong.drop, "What happens to an example longer than data.max_length.",
        source="The three ways are axolotl's (docs/dataset_preprocessing)",
        advice="Keep drop: a cut answer teaches the model not to stop. error when nothing may be lost. "
        "Of answers to compare truncate cuts the beginning of their prompt, the same tokens on both sides, "
        "and never an answer.",
        interacts={"data.max_length": "what is too long"},
    )
    mask: Mask = knob(
        Mask.answers, "Which tokens are learned: the answers, only the last answer, or everything.",
        source="LLaMA-Factory and TRL both train on the answers (train_on_prompt, assistant_only_loss)",
        advice="Keep answers: train on what the model should say. all for plain text, or when prompts are few and "
        "precious.",
    )
    packing: Packing | None = knob(
        None, "Whether several examples share a row, kept apart so that none sees another.",
        source="Packing without contamination, Ding et al., https://arxiv.org/abs/2404.10830 (best fit)",
        advice="best_fit pays where lengths differ much and rows are long; it changes how many examples make a step.",
        empty=Empty("best_fit in pre-training, none elsewhere and under privacy=dp_sgd", _derive_packing),
        interacts={"trainer.global_batch_size": "a row then holds several examples"},
        time="Saves padding where lengths differ.",
    )
    template: str | None = knob(
        None, "The chat format: a built-in name (chatml, llama3, alpaca, ...).",
        source="HF tokenizers carry their chat template (transformers docs, chat_templating)",
        advice="Leave it empty for a chat model: another format than the one it was served with costs quality.",
        empty=Empty("the tokenizer's own template; chatml where it has none"),
    )
    enable_thinking: bool | None = knob(
        None,
        "Whether the chat template asks the model to think before it answers; passed to the template as "
        "`enable_thinking`.",
        source="Qwen 3's chat template reads it; the docs of vLLM and transformers pass it on",
        advice="Give what the model is to be served with.",
        empty=Empty("what the template does by itself"),
        interacts={"data.template_arguments": "where the other arguments of the template are given"},
    )
    template_arguments: dict[str, Any] = knob(
        {},
        "Further arguments of the chat template, such as {reasoning_effort: low}; "
        "in training, samples, chat and rollouts alike.",
        source="transformers' apply_chat_template and TRL's chat_template_kwargs pass them on",
        advice="Give what the model is to be served with (vLLM's chat_template_kwargs).",
        interacts={"data.enable_thinking": "the most usual of them"},
    )
    special_tokens: SpecialTokens = knob(
        SpecialTokens.escape,
        "What happens to the text of a special token, such as <|im_end|>, that stands in a record: escape encodes it "
        "as plain text, keep as the token, drop leaves the record out.",
        source="transformers has sanitize_control_tokens in apply_chat_template; by default it keeps them",
        advice="Keep escape: nobody can end a turn by writing its mark. keep for data that were written with special "
        "tokens on purpose; an answer with an end token inside is then left out.",
        interacts={"data.template": "which texts are special tokens, its tokenizer knows"},
    )
    val_fraction: float = knob(
        0.05,
        "The share of the examples held out to measure the validation loss; at least 20, at most 1000, "
        "and never more than half.",
        source="Ours; LLaMA-Factory's form holds out nothing, so over-fitting does not show",
        bounds=below(0, 1), usual=between(0.01, 0.2),
        advice="0 only when a separate evaluation follows: without it there is no best checkpoint.",
        raise_when="When the validation loss is noisy because few examples are held out.",
        lower_when="When data are few and another evaluation follows.",
        interacts={
            "trainer.eval_every": "how often it is measured", "scheduler.patience": "a plateau needs it above 0",
        },
        time="Each evaluation reads all of it.",
    )
    max_samples: int | None = knob(
        None, "Train on a seeded random sample of so many examples.",
        source="Ours: a limit that takes the first rows biases the data (read in other trainers' source)",
        bounds=at_least(1), usual=Range(10, 100_000),
        advice="A thousand is enough to see whether a rate works at all.",
        empty=Empty("all of them"),
        raise_when="When the result of the small run is settled.",
        lower_when="To try many settings quickly: a thousand rows are enough.",
        interacts={"trainer.epochs": "fewer rows make fewer steps"},
        time="In proportion.",
    )
    max_drop: int = knob(
        0, "How many bad records are tolerated; one more stops before the model loads.",
        source="Ours: LLaMA-Factory issue #6185, 641,810 rows in and 577,585 trained without a word",
        bounds=at_least(0), usual=between(0, 100),
        advice="Raise it only after reading data_report.json, which names each bad record.",
        raise_when="After reading data_report.json, when the bad records are known and may go.",
        lower_when="When the data should be whole: 0.",
    )
    shuffle: bool = knob(
        True, "Whether each epoch sees the examples in a new order, drawn from the seed and the epoch.",
        source="Common practice; the order is a function of seed and epoch so that a resumed run sees the same",
        advice="false only when the order is a curriculum.",
    )


@option("data", "guide")
@dataclass(slots=True)
class Guide(Data):
    """The shipped data set: questions and answers about fine-tuning parameters.
    Take it for a first run and for tests."""

    shipped: ClassVar[tuple[str, str]] = ("train.jsonl", "heldout.jsonl")
    conversations: ClassVar[bool] = True
    costs: ClassVar[str] = "Nothing: it is shipped."


@option("data", "guide_preference")
@dataclass(slots=True)
class GuidePreference(Guide):
    """The shipped pairs: 64 questions on the guide's subject, each with a right answer and a wrong or
    empty one, written by hand.

    For a first run of stage=dpo or stage=rm and for tests: it teaches no more than that fluent nonsense is worse.
    """

    shipped: ClassVar[tuple[str, str]] = ("preference.jsonl", "")
    shipped_format: ClassVar[Format] = Format.preference
    costs: ClassVar[str] = "Nothing: it is shipped."


@option("data", "guide_prompts")
@dataclass(slots=True)
class GuidePrompts(Data):
    """The shipped prompts: 99 small sums from the life of a run, and 33 held out, each with its
    answer in the column `answer`.

    For stage=grpo and stage=ppo: `stage.reward=["match:answer"]` pays the right answer and nothing else.
    `kind` says which sum it is.
    """

    shipped: ClassVar[tuple[str, str]] = ("prompts.jsonl", "prompts_heldout.jsonl")
    shipped_format: ClassVar[Format] = Format.prompts
    costs: ClassVar[str] = "Nothing: it is shipped."


@option("data", "guide_form")
@dataclass(slots=True)
class GuideForm(Data):
    """The shipped sums as pairs: the answer as it was asked for, and the same answer in a
    sentence. 99 pairs, and 33 held out.

    A preference that a reward model can learn to the last pair: for a first look at stage=rm, dpo and kto.
    It teaches a form, no facts.
    """

    shipped: ClassVar[tuple[str, str]] = ("form.jsonl", "form_heldout.jsonl")
    shipped_format: ClassVar[Format] = Format.preference
    costs: ClassVar[str] = "Nothing: it is shipped."


@option("data", "file")
@dataclass(slots=True)
class File(Data):
    """Your own data: files, a saved data set, or a hub id. JSON, JSONL, CSV, Parquet, text, each also gzipped."""

    costs: ClassVar[str] = "Reading and tokenising once; the result is cached."

    path: list[str] = knob(
        [], "The files: paths, patterns such as data/*.jsonl, a data set folder, or a hub id (hub:owner/name).",
        source="HF datasets loading docs name the same kinds",
        advice="Several files are mixed; data.weights says how much of each.",
        resolve=resolve_pattern,
    )
    val_path: list[str] = knob(
        [], "Files of their own for validation, in place of data.val_fraction.",
        source="Common practice", advice="Give it when the validation examples must be the same in every run.",
        resolve=resolve_pattern,
    )
    format: Format = knob(
        Format.auto, "How a record says what it holds; auto looks at the first records and tells what it found.",
        source="Formats of Stanford Alpaca, ShareGPT and the OpenAI chat API; pairs, judged answers, "
        "prompts as in TRL and LLaMA-Factory",
        advice="Name it when a file is taken for another format.",
    )
    columns: dict[str, str] = knob(
        {},
        "Our field names to the file's column names, such as {instruction: question, output: answer}. "
        "A column is read only under the name that it is given here; body.messages names a key inside a column; "
        "role and content name the keys of a turn.",
        source="LLaMA-Factory's dataset_info.json has the same mapping",
        advice="Only for files whose columns are named otherwise. {instruction: output, output: "
        "input} trains the way back.",
    )
    roles: dict[str, str] = knob(
        {},
        "Names of roles in the file to ours, such as {Customer: user, Agent: assistant}; "
        "ours are user, assistant, system, tool and function_call (a call as JSON).",
        source="LLaMA-Factory's tags and axolotl's roles map the same names",
        advice="Only for roles that are refused as unknown: those of ShareGPT, OpenAI, LLaMA-Factory, "
        "axolotl and ms-swift are known.",
    )
    weights: list[float] = knob(
        [], "For each file, how often its examples are seen in one epoch: 1 once, 0.5 a seeded half, 2 twice.",
        source="Replay against forgetting: LLaMA-Factory issue #2611 (keep a share of general data)",
        bounds=at_least(0), usual=between(0.1, 5),
        advice="Raise a small file's weight to be heard; empty means every example once.",
        raise_when="For a small file that should be heard.", lower_when="For a large file that drowns the others.",
        interacts={"data.path": "one weight for each file"},
        time="An epoch has so many more examples.",
    )
