"""Datasets of one's own: files, a saved dataset, a hub id, or the entries of a dataset_info.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.paths import resolve_path, resolve_pattern
from fulgurite.config.schema import Empty, at_least, between, knob, option
from fulgurite.data.config.base import Data, Format


@option("data", "file")
@dataclass(slots=True)
class File(Data):
    """Your own data: files, a saved dataset, or a hub id. JSON, JSONL, CSV, Parquet, text, each also gzipped."""

    costs: ClassVar[str] = "Reading and tokenizing once; the result is cached."

    path: list[str] = knob(
        [], "The files: paths, patterns such as data/*.jsonl, a dataset folder, or a hub id (hub:owner/name).",
        source="HF datasets loading docs name the same kinds",
        advice="Several files are mixed; data.weights sets the share of each.",
        resolve=resolve_pattern,
    )
    val_path: list[str] = knob(
        [], "Separate files for validation, instead of data.val_fraction.",
        source="Common practice", advice="Set it if the validation examples must be the same in every run.",
        resolve=resolve_pattern,
    )
    registry: str | None = knob(
        None,
        "A dataset_info.json of LLaMA-Factory, or its folder: data.dataset then chooses datasets by their names in it. "
        "data.path may give the folder of their files.",
        source="LLaMA-Factory's data/README.md and data/parser.py (0.9.5) define the file",
        advice="Only if you have such a file: it also defines how each dataset is read (columns, tags, ranking).",
        empty=Empty("data.path names the files"), resolve=resolve_path,
    )
    dataset: list[str] = knob(
        [], "The datasets of data.registry to train on, by name.",
        source="LLaMA-Factory's `dataset`",
        advice="Several are mixed; data.weights sets the share of each.",
    )
    val_dataset: list[str] = knob(
        [], "The datasets of data.registry to validate with, instead of data.val_fraction.",
        source="LLaMA-Factory's `eval_dataset`",
        advice="Set it if the validation examples must be the same in every run.",
    )
    format: Format = knob(
        Format.auto, "The format of the records; auto detects it from the first records and prints it.",
        source="Formats of Stanford Alpaca, ShareGPT and the OpenAI chat API; pairs, judged answers, "
        "prompts as in TRL and LLaMA-Factory",
        advice="Set it if auto detects another format than you meant.",
    )
    columns: dict[str, str] = knob(
        {},
        "Maps our field names to the file's column names, such as {instruction: question, output: answer}. "
        "A mapped column is read only under its new name; body.messages is a key inside a column; "
        "role and content are the keys of a turn.",
        source="LLaMA-Factory's dataset_info.json has the same mapping",
        advice="Only for files with other column names. {instruction: output, output: input} trains the reverse task.",
    )
    roles: dict[str, str] = knob(
        {},
        "Maps the file's role names to ours, such as {Customer: user, Agent: assistant}; "
        "ours are user, assistant, system, tool and function_call (a call as JSON).",
        source="LLaMA-Factory's tags and axolotl's roles map the same names",
        advice="Only for roles that are reported as unknown: those of ShareGPT, OpenAI, LLaMA-Factory, "
        "axolotl and ms-swift are known.",
    )
    weights: list[float] = knob(
        [], "For each file, how often its examples are used in one epoch: 1 once, 0.5 a seeded half, 2 twice.",
        source="Replay against forgetting: LLaMA-Factory issue #2611 (keep a share of general data)",
        bounds=at_least(0), usual=between(0.1, 5),
        advice="Empty means every example once.",
        raise_when="For a small file that should have more influence.",
        lower_when="For a large file that dominates the others.",
        interacts={"data.path": "one weight per entry", "data.dataset": "or one per dataset"},
        time="In proportion to the examples in an epoch.",
    )
