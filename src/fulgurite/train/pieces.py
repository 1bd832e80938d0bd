"""The pieces of a run, each built when it is first asked for: data, model, stage, callbacks, trainer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from fulgurite import __version__
from fulgurite.callback.context import CallbackContext
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import decide, put_in_folder
from fulgurite.config.schema import walk_settings
from fulgurite.data.source import Source
from fulgurite.logger.build import build_loggers
from fulgurite.logger.tracked_run import TrackedRun
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.preflight import build_checked_source
from fulgurite.plan.prepare import Gathered, find_folder, prepare_run, settle_precision
from fulgurite.plan.rules import find_troubles
from fulgurite.plan.verdict import list_warnings
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.seed import secret_of
from fulgurite.run.folder import choose_run_folder, make_folder
from fulgurite.run.input_hashes import hash_inputs
from fulgurite.run.lineage import list_inputs
from fulgurite.run.resume_plan import ResumePlan, check_resume, find_resume
from fulgurite.run.sources import hash_start
from fulgurite.stage.base import StageModule
from fulgurite.stage.data_module import StageData
from fulgurite.strategy.build import join_processes, share_text
from fulgurite.strategy.ranks import Ranks
from fulgurite.text.console import rank, say
from fulgurite.train.assembly import Assembled, assemble
from fulgurite.train.callbacks import RunCallbacks, build_callbacks
from fulgurite.train.lightning import build_checkpoint_plugin
from fulgurite.trainer.build import build as build_trainer
from fulgurite.trainer.config import Trainer as TrainerConfig
from fulgurite.trainer.device import device


class Pieces:
    """What a run consists of. A piece is built once; `release` lets go of what holds the weights."""

    def __init__(self, composed: Composed, source: Source | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self.composed = composed
        self.own_callbacks = list(callbacks)
        if source is not None:
            self.source = source

    @cached_property
    def source(self) -> Source:
        """The data, every record of them read once."""
        return build_checked_source(self.composed)

    @cached_property
    def dtypes(self) -> Dtypes:
        """The compute type."""
        return settle_precision(self.composed.run.precision, self.composed.run.trainer)

    @cached_property
    def gathered(self) -> Gathered:
        """Everything but the weights; the empty parameters are filled."""
        source, dtypes = self.source, self.dtypes
        found = prepare_run(self.composed, source, dtypes)
        self.composed = found.composed
        return found

    @cached_property
    def troubles(self) -> list[Trouble]:
        """What the rules of `plan` find. Warnings are printed; raises RequestError if one refuses the run."""
        troubles = find_troubles(self.gathered.seen)
        for line in list_warnings(troubles):
            say(line)
        return troubles

    @cached_property
    def ranks(self) -> Ranks:
        """Which of the run's processes this one is; raises ConfigError if other processes were
        started than the run has."""
        trainer = self.composed.run.trainer
        return join_processes(trainer.devices, trainer.num_nodes, device(trainer))

    @cached_property
    def folder(self) -> Path:
        """The run's folder, which is made now."""
        run = self.composed.run
        folder = share_folder(run.name, run.run_dir, run.resume.run, run.trainer, self.ranks)
        make_folder(folder)
        self.composed = put_in_folder(self.composed, folder)
        return folder

    @cached_property
    def resume_plan(self) -> ResumePlan | None:
        """The checkpoint from which the run resumes; None for a fresh run. Raises CheckpointError if it is another
        run, or has no steps left."""
        total, run = self.gathered.facts.total_steps, self.composed.run
        folder = find_folder(run.resume.run, run.run_dir)
        plan = find_resume(self.composed, folder, say) if folder is not None else None
        if plan is not None:
            self.composed = decide(self.composed, *plan.adopted)
            run = self.composed.run
            inputs = hash_inputs(run.model, run.method, run.stage) if rank() == 0 else None
            check_resume(plan, inputs, run.resume.allow, run.trainer.early_stopping_patience, total, say)
        return plan

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint that the run goes on from."""
        return self.resume_plan.checkpoint if self.resume_plan is not None else None

    @cached_property
    def assembled(self) -> Assembled:
        """The stage and what was loaded for it. Raises as `troubles` does before any weight is loaded."""
        # Computes the property: its rules may refuse the run before weights are loaded.
        assert self.troubles is not None
        resumed = self.checkpoint is not None
        if self.composed.run.private:
            assert self.folder  # the noise's seed is kept there
        made = assemble(
            self.composed, self.dtypes, self.source, self.gathered,
            lambda: secret_of(self.composed.run.privacy, self.folder, resumed),
        )
        self.composed = made.composed
        made.module.resumes_from = self.checkpoint
        return made

    @property
    def module(self) -> StageModule:
        """The stage's LightningModule."""
        return self.assembled.module

    @cached_property
    def data(self) -> StageData:
        """The run's LightningDataModule."""
        g, made = self.gathered, self.assembled
        return StageData(made.module, g.rows, g.val, g.facts.processes, made.order)

    @cached_property
    def callbacks(self) -> RunCallbacks:
        """The run's callbacks; they write into its folder."""
        g, made = self.gathered, self.assembled
        folder, run = self.folder, self.composed.run
        context = CallbackContext(
            run, folder, g.facts.total_steps, made.module, made.loaded, made.template, self.source, g.rows, g.val,
        )
        hashes = hash_inputs(run.model, run.method, run.stage) if rank() == 0 else {}
        identity = {"data": g.encoded.key, "version": __version__, **hash_start(run.model), **hashes}
        return build_callbacks(context, identity, self.own_callbacks)

    @cached_property
    def trackers(self) -> list[Any]:
        """The trackers of `logger=`, given the config and the origin of each value. They outlive `release`."""
        if rank() != 0:
            return []
        facts, origins = self.gathered.facts, self.composed.provenance
        known = {name: {"origin": o.origin, "reason": o.reason} for name, o in origins.items()}
        run, folder = self.composed.run, self.folder
        # flat names, as on the command line, so that a W&B sweep's parameters meet their knobs
        settings = {knob.path: value for knob, value in walk_settings(run)}
        numbers = {"total_steps": facts.total_steps, "rows": facts.rows}
        inputs = list_inputs(run.model, run.method, run.stage, self.source, folder) if run.logger else ()
        tracked = TrackedRun(folder, settings, known, numbers, tuple(self.composed.overrides), inputs)
        return list(build_loggers(run.logger, tracked))

    @cached_property
    def trainer(self) -> Trainer:
        """The Lightning Trainer of `fulgurite train`, with its callbacks and trackers."""
        return self.build_trainer(
            self.callbacks.every, self.trackers, [build_checkpoint_plugin()], self.gathered.val is not None
        )

    def build_trainer(
        self, callbacks: Sequence[Callback], trackers: Sequence[Any] = (), plugins: Sequence[Any] = (),
        validates: bool = False
    ) -> Trainer:
        """A Trainer of the same mathematics with other callbacks, which keeps nothing of its own."""
        micro_batches, total_steps = self.data.micro_batches_per_step, self.gathered.facts.total_steps
        run = self.composed.run
        return build_trainer(
            run.trainer, strategy=run.strategy, private=run.private, dtypes=self.dtypes, folder=run.run_dir,
            total_steps=total_steps,
            micro_batches=micro_batches,
            validates=validates, callbacks=list(callbacks), trackers=list(trackers),
            plugins=list(plugins),
        )

    def release(self) -> None:
        """Forgets the stage and all that holds it; each is built anew when it is asked for."""
        for name in ("trainer", "callbacks", "data", "assembled", "resume_plan"):
            vars(self).pop(name, None)


def share_folder(
    name: str | None, run_dir: str | None, resumed: str | None, trainer: TrainerConfig, ranks: Ranks
) -> Path:
    """The run's folder, which the first process names for all of them: there is the time in its name."""
    given = resumed is not None or run_dir is not None
    if given and trainer.num_nodes == 1:  # our command on the first machine gives it to its processes alone
        return choose_run_folder(name, run_dir, resumed)
    named = str(choose_run_folder(name, run_dir, resumed)) if ranks.rank == 0 else ""
    return Path(share_text(named, ranks, device(trainer)))
