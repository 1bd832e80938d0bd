"""The study that remembers every trial: Optuna's, in SQLite or at the place of its URL.

A trial's steps are counted in percent of its run, so that trials of different lengths can be compared.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fulgurite.config.sweep import Goal, Pruner, Sampler, Sweep
from fulgurite.errors import ConfigError
from fulgurite.files.lock import hold_process_lock, is_locked, remove_process_locks
from fulgurite.language.message import UserMessage, message
from fulgurite.sweep.spaces import Span, Values
from fulgurite.sweep.storage import mark_trial, open_storage

STARTS = 5
"""Trials that are never ended early by the median: there must be one."""
AGAINS = 2
"""How often a trial whose process died is taken up again: what kills its machine each time must not do so for ever."""

JUST_ASKED = timedelta(minutes=1)
"""A trial without its process's name is given so long: another machine may be about to write it."""


def build_pruner(sweep: Sweep) -> Any:
    """Optuna's pruner; an evaluation every tenth of a run is the finest that hyperband reckons with."""
    import optuna

    if sweep.pruner is Pruner.median:
        return optuna.pruners.MedianPruner(n_startup_trials=STARTS)
    if sweep.pruner is Pruner.hyperband:
        return optuna.pruners.HyperbandPruner(min_resource=10, max_resource=100, reduction_factor=3)
    return optuna.pruners.NopPruner()


def build_sampler(sweep: Sweep, advised: dict[str, Any] | None = None) -> Any:
    """Optuna's sampler, seeded anew for each trial with its number; trial 0 is what was `advised`.

    A sampler that is made with the same seed when a study goes on would draw its first values again, as would a
    second machine's. So what a trial draws is a function of the seed, its number and the trials before, whoever
    asks.
    """
    import optuna

    class Numbered(optuna.samplers.BaseSampler):
        """Hands everything to a sampler of the trial's own."""

        inner: Any = None

        def before_trial(self, study: Any, trial: Any) -> None:
            # a large prime keeps the seeds of neighbouring searches apart; numpy takes 32 bits
            seed = (sweep.seed * 1_000_003 + trial.number) % 2**32
            # it counts what runs elsewhere as bad (constant_liar), so that no two draw alike
            tpe = optuna.samplers.TPESampler
            self.inner = optuna.samplers.RandomSampler(seed=seed) if sweep.sampler is Sampler.random else tpe(seed=seed)
            self.inner.before_trial(study, trial)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self.inner.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self.inner.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            # not queued: two machines that begin at once would queue it twice
            if trial.number == 0 and advised and param_name in advised:
                return advised[param_name]
            return self.inner.sample_independent(study, trial, param_name, param_distribution)

    return Numbered()


def open_study(sweep: Sweep, kept: Any) -> Any:
    """The study by its name, made where it is not there yet."""
    import optuna

    return optuna.create_study(
        study_name=sweep.study,
        storage=kept,
        load_if_exists=True,
        direction="minimize" if sweep.goal is Goal.minimize else "maximize",
        pruner=build_pruner(sweep),
        sampler=build_sampler(sweep),
    )


def claim_trials(
    study: Any, sweep: Sweep, spaces: dict[str, Values | Span], most: int, folder: Path
) -> list[tuple[int, dict[str, Any]]]:
    """At most so many trials, which are now this process's; none where the study has all of its own.

    Others may ask at the same time, and numbers are given once: who gets one behind the last that is wanted gives it
    back.
    """
    found = []
    for _ in range(min(most, sweep.trials - len(list_counted(study)))):
        number, values = ask(study, spaces, folder)
        # a trial counts by its number: the same `sweep.trials` lowest are kept, whichever process asks
        if sum(trial.number < number for trial in list_counted(study)) < sweep.trials:
            found.append((number, values))
            continue
        mark_trial(study, get_trial(study, number), "again", True)
        finish(study, sweep, number, "the study had its last trial already", failed=True)
    return found


def ask(study: Any, spaces: dict[str, Values | Span], folder: Path) -> tuple[int, dict[str, Any]]:
    """Returns the number and the values of the next trial, which this process is now responsible for; `folder` is
    the study's."""
    trial = study.ask()
    found = {name: _draw(trial, name, space) for name, space in spaces.items()}
    for key, value in describe_process(folder).items():
        trial.set_user_attr(key, value)
    return trial.number, found


def _draw(trial: Any, name: str, space: Values | Span) -> Any:
    if isinstance(space, Values):
        return trial.suggest_categorical(name, space.values)
    if space.whole:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return trial.suggest_float(name, float(space.low), float(space.high), log=space.log)


def begin(sweep: Sweep, folder: Path, resumed: bool) -> None:
    """Notes which process runs a trial: a launcher's is not the search's. Raises ConfigError if the trial is over
    already.

    `folder` is one for the lock of this process, on a file system that the searches of this machine read.
    """
    if sweep.trial is None or sweep.storage is None:
        return
    kept = open_storage(sweep.storage)
    trial_id = kept.get_trial_id_from_study_id_trial_number(kept.get_study_id_from_name(sweep.study), sweep.trial)
    if not kept.get_trial(trial_id).state.is_finished():
        kept.set_trial_user_attr(trial_id, "runner", describe_process(folder))
    elif not resumed:  # it waited in a queue while its search was taken for dead
        raise ConfigError(
            "Trial {trial} of {study} is over: another process took it up; nothing is left to do here.",
            trial=sweep.trial, study=sweep.study,
        )


def report(sweep: Sweep) -> Callable[[int, float], str | None]:
    """Returns a function of an evaluation (percent of the run, value) that returns why the trial ends, or None."""
    import optuna

    assert sweep.storage is not None
    assert sweep.trial is not None
    kept = open_storage(sweep.storage)
    study = optuna.load_study(
        study_name=sweep.study, storage=kept, pruner=build_pruner(sweep), sampler=build_sampler(sweep)
    )
    trial_id = kept.get_trial_id_from_study_id_trial_number(kept.get_study_id_from_name(sweep.study), sweep.trial)

    def report(percent: int, value: float) -> str | None:
        if kept.get_trial(trial_id).state.is_finished():  # its run goes on by itself, with resume.run
            return None
        kept.set_trial_intermediate_value(trial_id, percent, value)
        # a run that has come to its end is complete, however bad it is
        if percent >= 100 or not study.pruner.prune(study, kept.get_trial(trial_id)):
            return None
        others = (
            "than the median of the trials before it there"
            if sweep.pruner is Pruner.median
            else "than hyperband lets pass"
        )
        return f"its {sweep.metric} of {value:.4g} after {percent} % of the run is worse {others}"

    return report


def find_best(sweep: Sweep, values: Iterable[float]) -> float:
    """The best of some values, by the sweep's goal."""
    return min(values) if str(sweep.goal) == "minimize" else max(values)


def finish(study: Any, sweep: Sweep, number: int, why: str, pruned: bool = False, failed: bool = False) -> None:
    """Write down how a trial ended; one that reported nothing has failed."""
    from optuna.trial import TrialState

    trial = get_trial(study, number)
    if trial.state.is_finished():  # another process found it so before its own reported
        return
    values = list(trial.intermediate_values.values())
    if not failed and not values:
        failed, why = (
            True,
            f"no {sweep.metric} was reported: the run had no evaluation, or its stage has another name for it",
        )
    if why:
        # a FrozenTrial cannot; `Study.tell` does the same
        mark_trial(study, trial, "why", why)
    if failed:
        study.tell(number, state=TrialState.FAIL)
    elif pruned:
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, find_best(sweep, values))


def get_trial(study: Any, number: int) -> Any:
    """A trial as it is in the storage now."""
    return next(trial for trial in study.get_trials(deepcopy=False) if trial.number == number)


def settle(study: Any, sweep: Sweep, folder: Path) -> list[UserMessage]:
    """End the trials of processes of this machine that are gone, and put each in the queue again; what was done, in
    sentences."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    lines = []
    for trial in study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        if "pid" not in trial.user_attrs and datetime.now() - trial.datetime_start < JUST_ASKED:
            continue
        runner = trial.user_attrs.get("runner") or {}
        # 100 is the percent of the run: its last evaluation was reported
        ended = trial.intermediate_values.get(100) is not None
        if _is_other(trial.user_attrs) or (_is_other(runner) and not ended):
            continue
        with contextlib.suppress(UpdateFinishedTrialError):  # another process was quicker
            lines.append(queue_again(study, sweep, trial.number, folder))
    remove_process_locks(folder)
    return lines


def describe_process(folder: Path) -> dict[str, Any]:
    """Returns what other processes find this one by: its machine, its id, and a lock file in `folder` that it holds
    until it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = hold_process_lock(folder)
    return {"host": socket.gethostname(), "pid": os.getpid(), "lock": None if lock is None else str(lock)}


def _is_other(process: dict[str, Any]) -> bool:
    """Returns whether this describes another process that is alive.

    A process of another machine counts as alive, and so does one that could not lock a file, or has not written its
    lock yet.
    """
    if not process:
        return False
    if process.get("host") not in (None, socket.gethostname()):
        return True
    lock = process.get("lock")
    return process.get("pid") != os.getpid() and (lock is None or is_locked(Path(lock)))


def queue_again(study: Any, sweep: Sweep, number: int, folder: Path) -> UserMessage:
    """A trial that was cut off, ended and queued again with the same values and the same folder; or, too often cut
    off, failed."""
    trial = get_trial(study, number)
    times = int(trial.user_attrs.get("times", 0))
    place = trial.user_attrs.get("folder", str(number))
    if trial.intermediate_values.get(100) is not None:  # it had ended when the search was cut off
        finish(study, sweep, number, "")
        return message("Trial {number} had ended before the search was cut off.", number=number)
    if not trial.params or times >= AGAINS:
        finish(study, sweep, number, f"its process ended {times + 1} times before the run did", failed=True)
        return message(
            "Trial {number} is given up: its process ended {times} times before the run did.",
            number=number, times=times + 1,
        )
    mark_trial(study, trial, "again", True)
    finish(study, sweep, number, "its process ended before the run did; it is taken up again", failed=True)
    study.enqueue_trial(trial.params, user_attrs={"folder": place, "times": times + 1})
    return message(
        "Trial {number} was cut off; it is taken up again from {place}.", number=number, place=folder / place
    )


def list_counted(study: Any) -> list[Any]:
    """The trials that count: those begun, without the ones that were taken up again under another number."""
    from optuna.trial import TrialState

    return [
        t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING and not t.user_attrs.get("again")
    ]
