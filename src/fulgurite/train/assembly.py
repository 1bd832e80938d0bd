"""Weights → method → stage: the LightningModule of a run, ready to train."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import seed_everything

from fulgurite.checkpoint import rng
from fulgurite.config.provenance import Composed
from fulgurite.config.schema import build
from fulgurite.data.cache import find_cache_root
from fulgurite.data.dataset import AnyRows, TokenDataset
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.data.report import DataReport
from fulgurite.data.sampler import PoissonSampler
from fulgurite.data.source import Source
from fulgurite.data.template import Template, load_template
from fulgurite.errors import ConfigError, ModelError
from fulgurite.method.layerwise import build_freeze_schedules
from fulgurite.model.document_probe import use_documents
from fulgurite.model.load import Loaded
from fulgurite.model.probe import measure
from fulgurite.model.unwrap import unwrap_model
from fulgurite.plan.prepare import Gathered
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.accountant import draw_rows
from fulgurite.privacy.duplicates import count_duplicates, describe_unit
from fulgurite.run.load import apply_method, load_start
from fulgurite.run.reference import take_reference
from fulgurite.run.reward_model import load_reward_model
from fulgurite.stage.base import StageModule
from fulgurite.stage.preference import PreferenceModule
from fulgurite.stage.reward_functions import ModelReward
from fulgurite.text.console import say
from fulgurite.train.memory_trial import confirm
from fulgurite.trainer.config import Trainer
from fulgurite.trainer.device import device

if TYPE_CHECKING:
    from fulgurite.strategy.sharding import Sharder


@dataclass(slots=True)
class Assembled:
    """A stage over loaded weights. `order` draws the rows of a private run, and is None in others."""

    composed: Composed
    """The resolved run, with the micro-batch that was tried."""
    module: StageModule
    loaded: Loaded
    template: Template
    order: PoissonSampler | None


def assemble(
    composed: Composed, dtypes: Dtypes, source: Source, gathered: Gathered, secret: Callable[[], int]
) -> Assembled:
    """Loads the model, applies the method and builds the stage. `secret` returns the seed of a private run's noise.

    The seed of the run is set here: what is drawn from now on, and by training later,
    is the same in every process that begins it.
    """
    run, rows, val, total = composed.run, gathered.rows, gathered.val, gathered.facts.total_steps
    with share_model(run.strategy, run.trainer, dtypes) as sharder:
        seed_everything(run.seed, verbose=False)
        loaded = load_start(run.model, run.method, run.stage.gives_rewards, dtypes)
        template = load_template(run.data.template, loaded.tokenizer, run.data.arguments(), run.data.special_tokens)
        model = apply_method(run.method, run.stage.gives_rewards, loaded, dtypes)
        refuse_unfit(str(run.data.packing), loaded, model, rows)
        if not run.private:  # whose hooks see one row at a time
            use_documents(model)
        stage: StageModule = build(run.stage, model, run, dtypes, total)
        stage.freeze_schedules += build_freeze_schedules(run.method, model)
        stage.setup_data(source, rows, val, loaded, template)
        set_reference(stage, loaded, rows, val)
        load_rewards(stage)
        # After the reference and the reward models were loaded, so that the trial has no more memory than the run.
        composed = confirm(composed, stage, rows, gathered.seen)
        stage.run = composed.run
        if sharder is not None:
            stage.shard(sharder)
    order = make_private(stage, rows, secret(), count_shared_rows(gathered.report)) if run.private else None
    stage.random_state = rng.capture(torch.device(device(run.trainer)))
    return Assembled(composed, stage, loaded, template, order)


@contextlib.contextmanager
def share_model(strategy: Any, trainer: Trainer, dtypes: Dtypes) -> Iterator[Sharder | None]:
    """Yields what distributes the model over the processes, or None if each of them keeps all of it.

    In the first case the processes of a machine run the block one after the other, so that the whole model is in memory
    once. Raises ConfigError for fp16, which precision=auto may have chosen.
    """
    if strategy.replicates:
        yield None
        return
    if dtypes.compute == torch.float16:
        raise ConfigError(
            "strategy={strategy} does not work with fp16, the only 16-bit type of this GPU; use precision=fp32.",
            strategy=strategy.name,
        )
    from fulgurite.strategy.sharding import build_sharder  # loads torch's FSDP

    sharder = build_sharder(strategy, trainer.devices, trainer.num_nodes, device(trainer))
    with sharder.take_turn():
        yield sharder


def refuse_unfit(packing: str, loaded: Loaded, model: Any, rows: AnyRows) -> None:
    """Raise RequestError if the loaded model, asked with a few tokens, cannot be trained on these rows as they are."""
    found, name = measure(model), type(unwrap_model(model)).__name__
    if not found.causal:
        raise ModelError(
            "In {name} a later token changes an earlier prediction, so that it would see what it has to learn. An "
            "encoder needs is_decoder=true in its config.json; else take a causal language model.",
            name=name,
        )
    if packing == "best_fit" and not found.packs:
        raise ConfigError(
            "{name} cannot keep packed examples apart, so that each would see those before it; set "
            "data.packing=none.",
            name=name,
        )
    if found.positions is None:
        return
    loaded.length, longest = min(loaded.length, found.positions), int(max(rows.lengths, default=0))
    if longest > found.positions:
        raise ConfigError(
            "The longest example has {longest:,} tokens, and {name} has {positions:,} positions; lower "
            "data.max_length.",
            longest=longest, name=name, positions=found.positions,
        )


def set_reference(stage: StageModule, loaded: Loaded, rows: AnyRows, val: AnyRows | None) -> None:
    """Give a stage that has a reference the model of `stage.reference`, and let it compute
    beforehand what it wants to."""
    if not isinstance(stage, PreferenceModule):
        return
    take_reference(stage, loaded.tokenizer)
    parts = [part for part in (rows, val) if isinstance(part, PreferenceDataset)]
    stage.prepare_fit(parts, find_cache_root(), torch.device(device(stage.run.trainer)))


def load_rewards(stage: StageModule) -> None:
    """Load the reward models that a stage is to learn from."""
    for reward in getattr(stage, "rewards", ()):
        if isinstance(reward, ModelReward):
            reward.score = load_reward_model(Path(reward.name).expanduser(), torch.device(device(stage.run.trainer)))


def make_private(stage: StageModule, rows: AnyRows, secret: int, pieces: int) -> PoissonSampler:
    """Puts the stage under its mechanism and returns the order that draws each row by chance.

    Raises ConfigError if privacy cannot be kept.
    """
    run = stage.run
    assert isinstance(rows, TokenDataset)  # privacy refuses the stages that compare
    size = run.trainer.global_batch_size
    stage.set_mechanism(
        build(run.privacy, stage.model, rows=len(rows), batch_size=size, total_steps=stage.total_steps, secret=secret)
    )
    assert stage.mechanism is not None
    rate, count = stage.mechanism.rate, len(rows)
    say(describe_unit(*count_duplicates(rows), pieces))
    return PoissonSampler(
        rows.lengths, size, run.trainer.micro_batch_size, lambda step: draw_rows(secret, step, count, rate)
    )


def count_shared_rows(report: DataReport) -> int:
    """Rows beyond one for each record: further pieces of long documents, and further answers of one conversation."""
    return report.pieces + report.split_rows - report.split_records
