"""Loads what is evaluated: the model of a run with its stage, or another model, and the held-out examples."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fulgurite import __version__
from fulgurite.config.compose import compose
from fulgurite.config.eval_arguments import START
from fulgurite.config.facts import Facts
from fulgurite.config.guard import Allowed
from fulgurite.config.override_names import read_name
from fulgurite.config.overrides import quote_verbatim
from fulgurite.config.provenance import Composed
from fulgurite.config.registry import import_plugins
from fulgurite.config.resolve import fill_run, replace_parts
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import build, list_options
from fulgurite.config.stored import rebuild_run
from fulgurite.data.cache import find_cache_root
from fulgurite.data.config import Data, Packing
from fulgurite.data.dataset import AnyRows, split_dataset
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.data.report import DataReport
from fulgurite.data.source import Source
from fulgurite.data.template import Template, load_template
from fulgurite.data.tokenized import LONG, check_source, tokenize_source
from fulgurite.errors import ConfigError, ModelError, suggest_similar
from fulgurite.language.message import as_message, message
from fulgurite.model.document_probe import use_documents
from fulgurite.model.load import loaded
from fulgurite.model.reward_head import add_reward_head
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.folder import read_config
from fulgurite.run.input_hashes import read_identity
from fulgurite.run.load import LoadedRun, begin_run, load_named, read_model_weights, set_weights
from fulgurite.run.reference import take_reference
from fulgurite.run.sources import choose_checkpoint
from fulgurite.stage.base import StageModule
from fulgurite.stage.preference import PreferenceModule
from fulgurite.text.console import say
from fulgurite.trainer.device import device

KEPT = ("template", "enable_thinking", "template_arguments", "special_tokens", "mask")
"""The parameters of `data` that a run's other data take from the run, unless they are given."""


@dataclass(slots=True)
class HeldOutData:
    """The examples of an evaluation. `part` is `validation` for what the run held out, `files` for the validation files
    of other data, else `all`."""

    source: Source
    rows: AnyRows
    report: DataReport
    part: str
    key: str
    """The hash of the records, the tokenizer and the template (`compute_key`)."""


@dataclass(slots=True)
class Subject:
    """A model to evaluate, in evaluation mode on its device. `length` is its longest input in tokens.

    `stage` computes the loss; it is None if the examples are not needed, or if the stage draws its own answers.
    """

    name: str
    run: RunConfig
    model: Any
    tokenizer: Any
    template: Template
    dtypes: Dtypes
    length: int
    data: HeldOutData | None
    stage: StageModule | None
    folder: Path | None = None
    checkpoint: Path | None = None

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        found: torch.device = next(self.model.parameters()).device
        return found

    def release(self) -> None:
        """Frees the model, so that another one fits; what else is known of the subject stays."""
        self.model = self.stage = None
        # empty_cache returns only memory that nothing refers to: cycles of references are collected before.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True)
class EvaluatedConfig:
    """The config of a run as an evaluation uses it. Each method returns another one."""

    run: RunConfig

    def replace_groups(self, **groups: Any) -> EvaluatedConfig:
        """Replaces whole groups."""
        return EvaluatedConfig(replace_parts(Composed(self.run, {}, {}, ()), **groups).run)

    def use_one_device(self) -> EvaluatedConfig:
        """Leaves out other processes, and what only speeds up or saves memory in training."""
        trainer = replace(self.run.trainer, devices=1, num_nodes=1, compile=False, gradient_checkpointing=False)
        return self.replace_groups(trainer=trainer, strategy=list_options("strategy")["auto"]())

    def change_stage(self, words: Sequence[str]) -> EvaluatedConfig:
        """Takes the stage that the words name, if they do, for a loss that the run was not trained by.

        Raises ConfigError without other data, which the stage of the run would have split otherwise, and for a reward
        model as a language model.
        """
        own = [word for word in words if read_name(word).partition(".")[0] == "stage"]
        if not own:
            return self
        stage, before = compose(own).run.stage, self.run.stage
        if len(own) == len(words):
            raise ConfigError(
                "stage={stage} on a run of stage={own} needs data=...: the validation set of the run was drawn for its "
                "own stage.",
                stage=stage.name, own=before.name,
            )
        if stage.gives_rewards != before.gives_rewards:
            raise ConfigError(
                "stage={stage} cannot be measured on a run of stage={own}: one of them has a reward head in place of "
                "the language head.",
                stage=stage.name, own=before.name,
            )
        return self.replace_groups(stage=stage)

    def change_data(self, words: Sequence[str]) -> EvaluatedConfig:
        """Takes the data that the words name, with the template of the run: all of their records are evaluated, unless
        they have validation files. Running text is cut as in the run. Raises ConfigError."""
        given = {read_name(word) for word in words}
        own = [word for word in words if read_name(word).partition(".")[0] == "data"]
        data, before = compose([f"stage={self.run.stage.name}", *own]).run.data, self.run.data
        kept = {name: getattr(before, name) for name in KEPT if f"data.{name}" not in given}
        if self.run.stage.reads.running_text and "data.max_length" not in given:
            kept["max_length"] = before.max_length
        if "data.val_fraction" not in given:
            kept["val_fraction"] = 0.0
        data = replace(data, packing=Packing.none, **kept)
        if (refusal := data.find_refusal(self.run)) is not None:
            raise ConfigError(as_message(refusal))
        return self.replace_groups(data=data)


def load_run_subject(
    folder: Path, checkpoint: str, allowed: Allowed, train_words: Sequence[str], needs_data: bool
) -> Subject:
    """Loads a run's checkpoint (`best`, `last`, `step-N`, or `start` for the model before training) and its validation
    set, or the data that the words name, measured by the stage that they name.

    Raises RequestError for a damaged run, for one that has held out nothing, and for wrong words.
    """
    config = EvaluatedConfig(rebuild_run(read_config(folder), allowed, folder)).use_one_device()
    if train_words:
        config = config.change_stage(train_words).change_data(train_words)
    place = choose_checkpoint(folder, "best" if checkpoint == START else checkpoint)
    weights = None if checkpoint == START else read_model_weights(place)
    found = begin_run(folder, place, allowed=allowed)
    found.run = config.run
    if train_words:
        found.template = read_template(found.run.data, found.tokenizer)
    data = load_data(found, own=not train_words) if needs_data else None
    if data is not None and data.part == "validation":
        warn_of_changed_data(folder, place, data)
    stage = None
    if data is not None and not found.run.stage.rolls_out:
        stage = build_stage(found, data.rows)
    # After the stage was built: its reference is the model at the start of training.
    if weights is not None:
        set_weights(found, weights, folder)
    return _place(str(folder), found, data, stage, folder, None if checkpoint == START else place.resolve())


def load_model_subject(
    name: str, allowed: Allowed, train_words: Sequence[str], batch_size: int, needs_data: bool
) -> Subject:
    """Loads a model that no run has trained, with the stage and the data of the words. Raises RequestError."""
    import_plugins(allowed.plugins)
    words = [*find_model_words(name, allowed), "method=full", *train_words]
    config = EvaluatedConfig(compose(words).run).use_one_device()
    config = config.replace_groups(trainer=replace(config.run.trainer, micro_batch_size=batch_size))
    run = config.change_data(train_words).run
    dtypes: Dtypes = settle(run.precision, device(run.trainer))
    begun = load_named(run.model, dtypes.frozen, run.stage.gives_rewards)
    if run.stage.gives_rewards:
        begun.model = add_reward_head(begun.model)
    begun.model.requires_grad_(False)
    template = read_template(run.data, begun.tokenizer)
    found = LoadedRun(run, begun.model.eval(), begun.tokenizer, template, dtypes, Path())
    data = load_data(found, own=False) if needs_data else None
    stage = None
    if data is not None and not run.stage.rolls_out:
        stage = build_stage(found, data.rows)
    return _place(name, found, data, stage)


def read_template(data: Data, tokenizer: Any) -> Template:
    """Returns the chat template that the data name, or the tokenizer's own."""
    return load_template(data.template, tokenizer, data.arguments(), data.special_tokens)


def load_data(found: LoadedRun, own: bool) -> HeldOutData:
    """Reads and tokenizes the data of a run; `own` takes the part that the run held out. Raises RequestError."""
    run = found.run
    source: Source = build(run.data, stage=run.stage.name, seed=run.seed)
    source.check()
    length = loaded(found.model, found.tokenizer, []).length
    encoded = tokenize_source(
        source, found.template.tokenizer, found.template, run.data, find_cache_root(), run.data.max_length or length
    )
    facts = Facts(
        device=device(run.trainer), percentile_99=encoded.percentile_99, model_length=length, rows=len(encoded)
    )
    if not own and run.data.max_length is None and not source.reads.running_text:
        # the 99th percentile, which training derives, would leave out examples
        run = EvaluatedConfig(run).replace_groups(data=replace(run.data, max_length=length)).run
    data = fill_run(run, facts, "data")[0].data
    rows, val, report = split_dataset(encoded, data, run.seed, data.max_length, data.packing)
    if own and val is None:
        raise ConfigError(
            "This run has held out no examples; give some with data=file data.path=<file>."
        )
    if val is None:
        return HeldOutData(source, rows, report, "all", encoded.key)
    return HeldOutData(source, val, report, "validation" if own else "files", encoded.key)


def warn_of_changed_data(folder: Path, checkpoint: Path, data: HeldOutData) -> None:
    """Warns in one line if the records are not those of training: the validation set is drawn from them."""
    stored = read_identity(checkpoint)
    # another version has another key for the same records, and so may records of more than LONG characters
    if stored.get("version") != __version__ or check_source(data.source).seal.longest >= LONG:
        return
    if stored.get("data") not in (None, data.key):
        say(message(
            "warning: the data of {folder} have changed since training; the validation set is drawn from them again "
            "and may contain trained examples. Restore them, or evaluate other data: data=file data.path=<file>.",
            folder=folder,
        ))


def draw_rows(rows: AnyRows, most: int | None, seed: int) -> AnyRows:
    """Returns at most `most` of the rows, drawn with the seed, in their order."""
    if most is None or most >= len(rows):
        return rows
    # The 2 gives a sequence of random numbers that other draws with the same seed do not have.
    return rows.take(np.sort(np.random.default_rng([seed, 2]).choice(len(rows), most, replace=False)))


def build_stage(found: LoadedRun, rows: AnyRows) -> StageModule:
    """Builds the stage over a model before its trained weights are set: a reference is the model at the start."""
    run = found.run
    if not run.private:  # as in training
        use_documents(found.model)
    stage: StageModule = build(run.stage, found.model, run, found.dtypes, 1)
    where = torch.device(device(run.trainer))
    stage.to(where)
    if isinstance(stage, PreferenceModule) and isinstance(rows, PreferenceDataset):
        take_reference(stage, found.tokenizer)
        stage.prepare_reference([rows], find_cache_root(), where)
        stage.place_reference()
    stage.eval()
    return stage


def find_model_words(name: str, allowed: Allowed) -> list[str]:
    """Returns the words of `fulgurite train` for an option of `model`, a folder or a hub id. Raises ModelError if the
    name is none of them."""
    load_options()
    known = list_options("model")
    if name in known and name != "hf":
        return [f"model={name}"]
    if "/" not in name and not Path(name).exists():
        raise ModelError(
            "model={name} is neither a folder nor one of {names}.{hint}",
            name=name, names=", ".join(n for n in known if n != "hf"), hint=suggest_similar(name, known),
        )
    words = ["model=hf", f"model.path={quote_verbatim(name)}"]
    if allowed.model_code:
        words.append("model.trust_remote_code=true")
    return words + ([f"model.revision={quote_verbatim(allowed.revision)}"] if allowed.revision else [])


def _place(
    name: str, found: LoadedRun, data: HeldOutData | None, stage: StageModule | None, folder: Path | None = None,
    checkpoint: Path | None = None,
) -> Subject:
    """Moves the model to its device and puts all together."""
    model = found.model.to(device(found.run.trainer)).eval()
    length = loaded(model, found.tokenizer, []).length
    return Subject(
        name, found.run, model, found.tokenizer, found.template, found.dtypes, length, data, stage, folder, checkpoint
    )
