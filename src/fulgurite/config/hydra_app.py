"""Runs a task under Hydra's own command line: one job, several (-m), or Hydra's help and tab completion."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fulgurite.config.compose import build_composed
from fulgurite.config.guard import refuse_hydra_code
from fulgurite.config.hydra_errors import explain_error
from fulgurite.config.hydra_internals import watch_hydra
from fulgurite.config.override_checks import prepare
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.provenance import Composed
from fulgurite.config.registry import register
from fulgurite.errors import FulguriteError, Interrupted, Pruned, RequestError, TrainingFailed
from fulgurite.language.library_errors import translate_error
from fulgurite.text.console import say_error


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job of a multirun ended."""

    status: int
    why: str = ""
    pruned: bool = False
    lost: bool = False
    """The launcher broke: nobody knows how this job ended, or whether it runs still."""


def hydra_main(
    task: Callable[[Composed], int], overrides: Sequence[str], flags: Sequence[str], config_dir: Path | None = None
) -> int:
    """Run `task` under Hydra's own command line: --multirun, --cfg, --help, --info. Returns the exit status.

    Prints the error of a trial that fails, and starts the next one; the status is then that of the first that failed.
    """
    words = prepare(overrides, config_dir, multirun="--multirun" in flags)
    here = _Jobs(task)

    # Hydra wants a function; joblib and submitit carry this one to other processes
    def job(config: DictConfig) -> Outcome:
        return here(config)

    try:
        brought = _run_under_hydra(job, [*flags, *words])
    except (HydraException, OmegaConfBaseException) as error:
        raise explain_error(error, words) from error
    for outcome in brought if not here.ended else ():  # submitit's jobs wrote it to files of their own
        if outcome.status:
            say_error(outcome.why)
    brought = brought or here.ended
    if (stopped := next((o for o in brought if o.status in Interrupted.STATUSES), None)) is not None:
        # only now: Hydra writes a line of its own about a job that raises
        raise Interrupted.of(stopped.status, stopped.why)
    return next((o.status for o in brought if o.status), 0)


@dataclass(slots=True)
class _Jobs:
    """The jobs of a multirun in one process: each ends with an Outcome; after one that was stopped none begins."""

    task: Callable[[Composed], int]
    stopped: Outcome | None = None
    ended: list[Outcome] = field(default_factory=list)
    """Those that are no trials of a search, which passes over what fails."""

    def __call__(self, config: DictConfig) -> Outcome:
        if self.stopped is not None:
            return self.stopped
        settled = cast(DictConfig, OmegaConf.merge(config, {}))  # the job's own copy: hydra's node is read-only
        OmegaConf.set_struct(settled, False)
        settled.hydra = HydraConfig.get()
        chosen = list(settled.hydra.overrides.task)
        trial = next((word.partition("=")[2] for word in chosen if word.startswith("sweep.trial=")), None)
        job = settled.hydra.job
        outcome = self._ended(settled, chosen, trial or str(1 if OmegaConf.is_missing(job, "num") else job.num + 1))
        self.stopped = outcome if outcome.status in Interrupted.STATUSES else None
        self.ended += [outcome] if trial is None else []
        return outcome

    def _ended(self, config: DictConfig, chosen: list[str], number: str) -> Outcome:
        try:
            return Outcome(self.task(build_composed(config, chosen)))
        except Pruned as error:
            return Outcome(error.exit_status, str(error), pruned=True)
        except Interrupted as error:
            return Outcome(error.exit_status, str(error))
        except (FulguriteError, OmegaConfBaseException) as error:
            failure = error if isinstance(error, FulguriteError) else explain_error(error, chosen)
            say_error(f"Trial {number} ({' '.join(chosen)}): {failure}")
            return Outcome(failure.exit_status, str(failure))
        except SystemExit as error:  # of code that is not ours: Hydra would end the whole command with its status
            why = f"the code of the trial called sys.exit({error.code!r})"
            say_error(f"Trial {number} ({' '.join(chosen)}): {why}")
            return Outcome(TrainingFailed.exit_status, why)


def read_outcome(done: Any) -> Outcome:
    """What a launched job came to; prints and skips one that failed with another library's exception."""
    try:
        found = done.return_value
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        say_error(f"{' '.join(done.overrides or [])}: {why}")
        return Outcome(TrainingFailed.exit_status, why)
    return (
        found
        if isinstance(found, Outcome)
        else Outcome(TrainingFailed.exit_status, "the launcher brought nothing back")
    )


def complete(words: Sequence[str]) -> int:
    """Hydra's tab completion, controlled by `install=bash`, `query=bash` and the like. Returns 0."""
    register()
    try:
        _run_under_hydra(lambda config: None, ["--shell-completion", *words])
    except (HydraException, ValueError) as error:
        raise RequestError(
            "{words} cannot be answered: {error} Write install=bash, query=bash or uninstall=bash.",
            words=' '.join(words), error=translate_error(error),
        ) from error
    return 0


def _run_under_hydra(job: Callable[[DictConfig], Outcome | None], words: Sequence[str]) -> list[Outcome]:
    """What the jobs of a multirun brought back: those of joblib and submitit have no other way into this process."""
    import hydra

    brought: list[Outcome] = []

    def see_batches(batches: Any) -> None:
        brought.extend(read_outcome(done) for batch in batches or () for done in batch)

    def see_config(config: DictConfig) -> None:
        refuse_hydra_code(OmegaConf.to_container(config.hydra))

    # else Hydra prints, and leaves with its own status
    full, os.environ["HYDRA_FULL_ERROR"] = os.environ.get("HYDRA_FULL_ERROR"), "1"
    try:
        with watch_hydra(see_batches, see_config, list(words)):
            hydra.main(version_base="1.3", config_path=str(find_conf_dir()), config_name="train")(job)()
    except SystemExit as left:  # after --help and the like
        if left.code:
            raise
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        os.environ.update({"HYDRA_FULL_ERROR": full} if full is not None else {})
    return brought
