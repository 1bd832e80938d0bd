"""The parameters of `fulgurite eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fulgurite.config.arguments import parse
from fulgurite.config.described import DescribedEnum
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.config.paths import check_run_folder
from fulgurite.config.schema import Empty, at_least, between, knob, list_knobs
from fulgurite.errors import ConfigError, RequestError

START = "start"
"""The word of `checkpoint` and `against` for the model before its training."""
TRAIN_GROUPS = ("stage", "model", "data", "precision", "trainer")
"""The groups of `fulgurite train` whose words an evaluation of a model takes."""
RUN_GROUPS = ("stage", "data")
"""Those of an evaluation of a run, which has the others."""


class Turns(DescribedEnum):
    """The answers of a conversation that the model is asked for."""

    last = "last", "The last answer, after all turns before it."
    all = "all", "Each answer, after the turns of the record before it."


@dataclass(slots=True)
class EvalSettings:
    """What is evaluated, on which examples, and what is measured beside the loss."""

    room: ClassVar[str] = "eval"

    run: str = knob("", "The run folder.", source="Ours", advice="`fulgurite runs` lists them.")
    model: str | None = knob(
        None, "A model instead of a run: a folder, a hub id, or an option such as smollm2_135m.", source="Ours",
        advice="Evaluate the model that a run started from with checkpoint=start instead: it keeps the run's settings.",
        empty=Empty("none: eval.run is given"),
    )
    checkpoint: str = knob(
        "best", "The checkpoint of the run: best, last, step-N, or start for the model before training.", source="Ours",
        advice="best is the one with the lowest validation loss; start shows what the training changed.",
    )
    max_examples: int | None = knob(
        None, "Evaluate at most so many examples, drawn with eval.seed.", source="Ours",
        bounds=at_least(1), usual=between(50, 1000),
        advice="100 answers give an accuracy to about 0.1, 1000 to about 0.03 (two standard errors).",
        empty=Empty("all examples"), raise_when="When two runs differ by less than the noise.",
        lower_when="When generation takes too long.", time="In proportion.",
    )
    metrics: list[str] = knob(
        [],
        "Metrics of the model's answers beside the reference answers: exact_match, bleu, chrf, rouge, tool_calls.",
        source="BLEU and chrF by sacrebleu, https://arxiv.org/abs/1804.08771; docs/evaluate.md has the paper of each",
        advice="exact_match for short answers with one right form; chrf or rouge for free text.",
        time="The time of one answer for each example.",
    )
    turns: Turns = knob(
        Turns.last, "Which answers of a conversation the model is asked for: its last one, or each one.",
        source="Ours", advice="all with metrics=tool_calls: the last answer of a conversation is seldom a call.",
        time="all: the time of one answer for each turn.",
        interacts={"eval.metrics": "tool_calls needs the answers that are calls"},
        misread="Earlier turns are those of the record, not the model's own.",
    )
    reward: list[str] = knob(
        [], "Rules, functions or reward models that score the answers, as in stage.reward.",
        source="Ours; TRL's rewards",
        advice="match:answer, contains:COLUMN or regex:PATTERN need no file; docs/rewards.md has all forms.",
        time="The time of one answer for each example.",
    )
    max_new_tokens: int = knob(
        256, "Maximum tokens of an answer.", source="Ours; LLaMA-Factory evaluates with 512",
        bounds=at_least(1), usual=between(64, 1024), advice="An answer that reaches it is counted as cut.",
        raise_when="When many answers are counted as cut.", lower_when="When answers are short and time matters.",
        time="In proportion to the length of the answers.",
    )
    temperature: float = knob(
        0.0, "How freely tokens are drawn; 0 always takes the likeliest.",
        source="lm-evaluation-harness docs: greedy decoding",
        bounds=between(0, 10), usual=between(0, 1), advice="0: two evaluations then differ only by the weights.",
        raise_when="To measure the answers that people will see at that temperature.", lower_when="To compare runs: 0.",
    )
    batch_size: int = knob(
        8, "How many answers are generated at a time; greedy answers do not depend on it, apart from rounding.",
        source="Ours", bounds=at_least(1), usual=between(1, 64), advice="Raise it on a GPU until memory is used.",
        raise_when="When a GPU has memory left.", lower_when="When memory runs out.",
        memory="The key-value cache grows in proportion.",
    )
    seed: int = knob(
        0, "The seed of the drawn examples, of answers at a temperature, and of the sides of a comparison.",
        source="Ours", bounds=at_least(0), usual=(0, 1, 2), advice="Use the same seed for runs that are compared.",
        leave="No seed is better than another.",
    )
    tasks: list[str] = knob(
        [], "Tasks of lm-evaluation-harness, by name; names of your own YAML files need eval.task_folder.",
        source="lm-evaluation-harness 0.4, docs, https://github.com/EleutherAI/lm-evaluation-harness",
        advice="A task that the harness ships reads its data from the Hugging Face hub; your own reads your files.",
    )
    task_folder: str | None = knob(
        None, "A folder with task files (YAML) of lm-evaluation-harness.",
        source="lm-evaluation-harness docs, --include_path",
        advice="A task over a local file has `dataset_path: json` and `dataset_kwargs: {data_files: ...}`.",
        empty=Empty("only the tasks that the harness ships"),
    )
    num_fewshot: int | None = knob(
        None, "Examples with their answers before each question of a task.",
        source="lm-evaluation-harness docs, --num_fewshot",
        bounds=at_least(0), usual=(0, 5, 25),
        advice="Compare with a published number only at the same number of examples.",
        empty=Empty("the number in the task's file"), leave="The published number decides.",
    )
    against: str | None = knob(
        None,
        "A second run folder, or start for the same run before training: both answer the same questions, in a table "
        "that a person can judge blind.",
        source="Pairwise comparison as in MT-Bench, Zheng et al., https://arxiv.org/abs/2306.05685",
        advice="With eval.metrics or eval.reward the win rate is computed at once.",
        empty=Empty("no comparison"),
    )
    out: str | None = knob(
        None, "The new CSV file of a comparison; its key is written beside it.", source="Ours",
        advice="Give the judges the table without the key.", empty=Empty("comparison.csv in the run folder"),
    )
    judged: str | None = knob(
        None, "A judged table: its column `better` has left, right or tie in each row.", source="Ours",
        advice="The key that was written with the table must be beside it.", empty=Empty("no table"),
    )


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """The words of one `fulgurite eval`: what code they allow, its parameters, and the words of `fulgurite train`."""

    allowed: Allowed
    config: EvalSettings
    train_words: tuple[str, ...] = ()


def read(words: Sequence[str]) -> EvalRequest:
    """Reads the words of `fulgurite eval`. Raises RequestError; loads no torch."""
    allowed, rest = split_allowed(words)
    names = {knob.name for knob in list_knobs(EvalSettings)}
    train = tuple(word for word in rest if _is_train_word(word, names))
    config = parse(EvalSettings, [word for word in rest if word not in train], "eval")
    if config.judged is not None:
        if not Path(config.judged).expanduser().is_file():
            raise RequestError("judged={path} does not exist; give a judged table.", path=config.judged)
        return EvalRequest(allowed, config, train)
    if bool(config.run) == (config.model is not None):
        raise ConfigError("fulgurite eval needs run=<run folder> or model=<folder or option>, and not both.")
    if config.run:
        check_run_folder(config.run, "run")
        _refuse_other_groups(train)
    if config.task_folder is not None and not Path(config.task_folder).expanduser().is_dir():
        raise RequestError("task_folder={path} is not a folder; give one with YAML files.", path=config.task_folder)
    _check_comparison(config)
    return EvalRequest(allowed, config, train)


def find_table(config: EvalSettings) -> Path:
    """Returns the path of the table of a comparison."""
    folder = Path(config.run or ".").expanduser()
    return Path(config.out).expanduser() if config.out is not None else folder / "comparison.csv"


def _check_comparison(config: EvalSettings) -> None:
    """Raises RequestError for a comparison without a second model, or whose table exists."""
    if config.against is None:
        if config.out is not None:
            raise ConfigError(
                "out={path} is the table of a comparison; add against=<run folder> or against=start.", path=config.out
            )
        return
    if config.against != START:
        check_run_folder(config.against, "against")
    elif not config.run:
        raise ConfigError("against=start compares a run with its own beginning; give run=<run folder>.")
    if (table := find_table(config)).exists():
        raise RequestError(
            "{path} exists already; give another out=<file>, because nothing is overwritten.", path=table
        )


def _is_train_word(word: str, own: set[str]) -> bool:
    """Returns whether a word is one of `fulgurite train`: a group, or a parameter of one."""
    name = word.partition("=")[0]
    return name not in own and name.partition(".")[0] in TRAIN_GROUPS


def _refuse_other_groups(train: Sequence[str]) -> None:
    """Raises ConfigError for a word that would change the run: only its data, and what is measured, may be others."""
    for word in train:
        if word.partition("=")[0].partition(".")[0] not in RUN_GROUPS:
            raise ConfigError(
                "{word} is not possible with run=: a run is evaluated with its own settings, and only data=... and "
                "stage=... may differ; use model=... to evaluate a model with other settings.",
                word=word,
            )
