"""A run as one object: `fulgurite.experiment("stage=dpo", ...)`, and what `fulgurite train`
and `fulgurite plan` call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.errors import ConfigError
from fulgurite.plan.judge import judge_run
from fulgurite.plan.report import PlanReport
from fulgurite.run.stored_words import restore_words
from fulgurite.strategy.ranks import is_started
from fulgurite.train.fit import train
from fulgurite.train.lr_finder import find
from fulgurite.train.pieces import Pieces
from fulgurite.train.probe import measure


class Experiment(Pieces):
    """A run, built piece by piece when a piece is first asked for.

    `config` is the resolved config, `data` a LightningDataModule, `module` the stage's LightningModule and `trainer`
    the Lightning Trainer of `fulgurite train`. `fit()` trains; a Trainer of one's own trains with
    `trainer.fit(experiment.module, datamodule=experiment.data)` and gives the same losses.
    Words that are wrong raise ConfigError when the experiment is made; data, models and rules that refuse the run raise
    RequestError when a piece needs them.
    """

    @property
    def config(self) -> RunConfig:
        """The resolved config: every empty parameter is filled. Reads the data, and loads no weights."""
        assert self.gathered is not None
        return self.composed.run

    def plan(self, *, probe: bool = False) -> PlanReport:
        """What `fulgurite plan` finds; `print` it. Loads no weights unless `probe` times a few micro-batches."""
        return judge_run(self.dtypes, self.gathered, measure(self) if probe else None)

    def fit(self) -> None:
        """Trains as `fulgurite train` does: the same run folder, numbers and files.

        Raises RequestError (exit status 2), TrainingFailed (3) or Interrupted (130, 143) as the command ends.
        """
        run = self.composed.run
        if run.launcher.is_remote and not is_started(os.environ):
            raise ConfigError(
                "launcher={name} starts one run from the command line: leave it out of -m and of Python code.",
                name=run.launcher.name,
            )
        if "assembled" in vars(self) and self.module.has_trained:
            raise ConfigError(
                "This experiment has been trained: make a new one with fulgurite.experiment(...) to train again."
            )
        if run.sweep.knobs and not self.composed.multirun and run.sweep.trial is None:
            raise ConfigError(
                "A search is several runs: write fulgurite train -m before the words, as in -m +sweep=sft_lora."
            )
        if run.lr_finder.enabled:
            find(self)
        else:
            train(self)


def experiment(*words: str, config_dir: str | Path | None = None, callbacks: Sequence[Callback] = ()) -> Experiment:
    """The run that the words of the command line name: `group=option`, `parameter=value`,
    `plugins=[module]`, `resume.run=folder`.

    `config_dir` is a folder of options of one's own; `callbacks` are Lightning callbacks that see the run beside ours.
    Raises ConfigError for words that are wrong, in the sentence of the command line.
    """
    return Experiment(
        compose(restore_words(list(words)), Path(config_dir) if config_dir is not None else None), callbacks=callbacks
    )
