"""Runs a search: draws trials from the study, launches them, records how each ended, and prints the result.

All trials run one after the other in the process of the search, as every `-m` does, so that torch is loaded once. A
launcher (hydra/launcher=joblib, submitit) gives each trial a process of its own, and the same command on several
machines shares the study.
"""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fulgurite.config.decision import Decision, Kind
from fulgurite.config.hydra_app import Outcome
from fulgurite.config.overrides import quote_typed, quote_verbatim
from fulgurite.config.provenance import Composed
from fulgurite.config.run import list_all_knobs
from fulgurite.config.schema import walk_settings
from fulgurite.config.sweep import Sweep
from fulgurite.errors import ConfigError, Interrupted, TrainingFailed
from fulgurite.language.message import UserMessage, message
from fulgurite.plan.preflight import build_checked_source
from fulgurite.plan.prepare import prepare_run, settle_precision
from fulgurite.run.folder import make_folder
from fulgurite.strategy.ranks import refuse_several
from fulgurite.sweep import study as kept_study
from fulgurite.sweep.result import format_result, write
from fulgurite.sweep.spaces import Span, Values, build_space, find_knob
from fulgurite.sweep.storage import hold_alone, open_storage
from fulgurite.text.console import say, show

HOPELESS = 3
"""A search ends after this many failed trials if none has succeeded: the fault is then in what they share."""

TRIAL_STATES = {
    "COMPLETE": message("complete"), "PRUNED": message("pruned"), "FAIL": message("fail"),
    "RUNNING": message("running"),
}
"""The states of Optuna's trials, for people."""

Launch = Callable[[list[list[str]], int], list[Outcome]]


@dataclass(slots=True)
class Search:
    """The words that all trials share, the ranges of the searched parameters, and the folder."""

    shared: list[str]
    spaces: dict[str, Values | Span]
    sweep: Sweep
    folder: Path


def prepare_search(base: Composed, shared: list[str], asked: dict[str, Values | Span], folder: Path | None) -> Search:
    """Prepares the search of a command. `asked` are the ranges on the command line, which win. Raises ConfigError."""
    run, sweep = base.run, base.run.sweep
    refuse_several(run.world_size)
    if run.data.val_fraction == 0 and not getattr(run.data, "val_path", None):
        raise ConfigError("A search compares trials by an evaluation; set data.val_fraction or data.val_path.")
    knobs = [find_knob(walk_settings(run), run.stage.name, name) for name in sweep.knobs]
    spaces = {k.path: asked.get(k.path) or build_space(k, k.find_usual(run)) for k in knobs} | asked
    fixed = {word.partition("=")[0] for word in shared}  # a value on the command line is not searched
    spaces = {name: space for name, space in spaces.items() if name not in fixed}
    if not spaces:
        raise ConfigError(
            "The search has no parameters; name some (sweep.knobs=[optim.lr]), or give a range "
            "('optim.lr=interval(1e-5,1e-3)')."
        )
    study = sweep.study or f"{base.choices.get('sweep') or 'sweep'}-{_hash(shared, spaces)}"
    place = folder or Path("runs") / "sweeps" / study
    make_folder(place)
    sweep = replace(sweep, study=study, storage=sweep.storage or f"sqlite:///{place.resolve()}/study.db")
    own = ("sweep.storage", "sweep.study", "run_dir")
    shared = [word for word in shared if word.partition("=")[0] not in own]
    if getattr(run.stage, "prompts", None) is not None and base.provenance["stage.prompts"].kind is Kind.default:
        shared.append("stage.prompts=[]")  # nobody reads the answers of 30 trials, which take minutes
    return Search(shared, spaces, sweep, place)


def _hash(shared: list[str], spaces: dict[str, Values | Span]) -> str:
    free = ("sweep.", "run_dir", "name", "callback", "logger", "trainer.num_workers")
    facts = sorted(word for word in shared if not word.lstrip("+").startswith(free)) + [
        f"{k}{v}" for k, v in sorted(spaces.items())
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def search(what: Search, base: Composed, launch: Launch) -> None:
    """Runs the trials that the study still lacks. Raises Interrupted; TrainingFailed or ConfigError if no trial
    succeeded."""
    sweep = what.sweep
    study = kept_study.open_study(sweep, open_storage(str(sweep.storage)))
    if not study.get_trials(deepcopy=False):
        # prepared once here, so that the trials find the data tokenised
        source, precision = build_checked_source(base), settle_precision(base.run.precision, base.run.trainer)
        base = prepare_run(base, source, precision).composed
        study.sampler = kept_study.build_sampler(sweep, _choose_advised(base.provenance, base.choices, what.spaces))
    say(message(
        "study {study} in {storage}: {done} of {trials} trials; {names}",
        study=sweep.study, storage=sweep.storage, done=len(kept_study.list_counted(study)), trials=sweep.trials,
        names=", ".join(what.spaces),
    ))
    failed = 0
    while batch := _claim_next(study, what):
        outcomes = launch(_build_jobs(study, what, batch), batch[0][0])
        for (number, values), outcome in zip(batch, outcomes, strict=True):
            _record(study, what, (number, values), outcome, [n for n, _ in batch])
            if outcome.status not in Interrupted.STATUSES and not outcome.lost:
                # one success: as many failures as trials are left cannot raise the count to HOPELESS any more
                failed = failed + 1 if outcome.status else -sweep.trials
        _forget(study, sweep, what.folder)
        gc.collect()  # a model and its Trainer hold each other
        if (stopped := next((o for o in outcomes if o.status in Interrupted.STATUSES), None)) is not None:
            why = message("{why} The same command goes on with the search.", why=stopped.why)
            raise Interrupted.of(stopped.status, why)
        if failed >= HOPELESS and not _list_completed(study):
            raise ConfigError(
                "The first {count} trials failed, the last one with: {error} Correct the cause, and run the command "
                "again.",
                count=failed, error=outcomes[-1].why,
            )
    write(study, sweep, what.folder)
    shared = [word for word in what.shared if not word.lstrip("+").startswith("sweep")]
    show(format_result(study, sweep, what.folder, shared, base.choices.get("sweep", "")))
    if not _list_completed(study):
        raise TrainingFailed(
            "No trial of {study} was completed; {file} has the reasons.",
            study=sweep.study, file=what.folder / "trials.jsonl",
        )


def _build_jobs(study: Any, what: Search, batch: list[tuple[int, dict[str, Any]]]) -> list[list[str]]:
    """Returns the command line words of each trial."""
    return [
        [
            *what.shared,
            *_format_words(values),
            f"run_dir={quote_verbatim(_find_folder(study, what, number).resolve())}",
            f"sweep.storage={quote_verbatim(what.sweep.storage)}",
            f"sweep.study={quote_verbatim(what.sweep.study)}",
            f"sweep.trial={number}",
        ]
        for number, values in batch
    ]


def _find_folder(study: Any, what: Search, number: int) -> Path:
    return what.folder / str(kept_study.get_trial(study, number).user_attrs.get("folder", number))


def _record(
    study: Any, what: Search, trial: tuple[int, dict[str, Any]], outcome: Outcome, batch: Sequence[int]
) -> None:
    """Writes down how a trial ended. Raises ConfigError if the launcher could not start any of its batch."""
    number, values = trial
    if outcome.status in Interrupted.STATUSES:
        kept_study.queue_again(study, what.sweep, number, what.folder)
    elif outcome.lost:  # its state is decided as soon as its process is known to be gone
        if not any((_find_folder(study, what, n) / "status.json").is_file() for n in batch):
            raise ConfigError("The launcher could not start a trial: {error}", error=outcome.why)
        say(message("trial {number}: {error}", number=number, error=outcome.why))
    else:
        broken = outcome.status != 0
        kept_study.finish(study, what.sweep, number, outcome.why, pruned=outcome.pruned, failed=broken)
        say(_format_line(study, what.sweep, number, values))


def _claim_next(study: Any, what: Search) -> list[tuple[int, dict[str, Any]]]:
    """Claims the next trials for this process, among them those whose process died, here or in another search on this
    machine."""
    with hold_alone(str(what.sweep.storage)):
        for sentence in kept_study.settle(study, what.sweep, what.folder):
            say(sentence)
        return kept_study.claim_trials(study, what.sweep, what.spaces, what.sweep.at_once, what.folder)


def _choose_advised(
    decisions: Mapping[str, Decision], choices: Mapping[str, str], spaces: dict[str, Values | Span]
) -> dict[str, Any]:
    """Returns the values that the run would have without a search, if they are in the ranges: they are the first trial,
    with which the others are compared."""
    found = {}
    for name, space in spaces.items():
        value = decisions[name].value if name in decisions else choices.get(name)
        inside = (
            value in space.values
            if isinstance(space, Values)
            else isinstance(value, int | float) and space.low <= value <= space.high
        )
        if inside:
            found[name] = value
    return found


def _format_words(values: dict[str, Any]) -> list[str]:
    knobs = {k.path: k for k in list_all_knobs()}
    return [
        quote_typed(f"{name}={str(value).lower() if isinstance(value, bool) else value}", knobs)
        for name, value in values.items()
    ]


def _list_completed(study: Any) -> list[Any]:
    from optuna.trial import TrialState

    found: list[Any] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found


def _format_line(study: Any, sweep: Sweep, number: int, values: dict[str, Any]) -> UserMessage:
    """Returns the line about a trial that has ended: its state, its value, what was drawn, and the best so far."""
    trial = kept_study.get_trial(study, number)
    shown = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
    why = f", {trial.user_attrs['why']}" if "why" in trial.user_attrs else ""
    value = f" {sweep.metric} {trial.value:.4f}" if trial.state.name == "COMPLETE" else ""
    line = message(
        "trial {number} {state}{value}: {drawn}{why}",
        number=number, state=TRIAL_STATES.get(trial.state.name, trial.state.name.lower()), value=value, drawn=shown,
        why=why,
    )
    if not _list_completed(study):
        return line
    return message(
        "{line}; best so far {best:.4f} (trial {number})",
        line=line, best=study.best_value, number=study.best_trial.number,
    )


def _forget(study: Any, sweep: Sweep, folder: Path) -> None:
    """Removes the checkpoints of the trials that have ended and are not among the best."""
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and not t.user_attrs.get("again")]
    better = sorted(_list_completed(study), key=lambda t: t.value if str(sweep.goal) == "minimize" else -t.value)
    keep = {t.number for t in better[: sweep.keep]}
    for trial in ended:
        place = folder / trial.user_attrs.get("folder", str(trial.number)) / "checkpoints"
        if trial.number not in keep and place.is_dir():
            shutil.rmtree(place, ignore_errors=True)  # another search may remove it too
