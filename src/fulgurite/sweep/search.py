"""A search from its first trial to its last: ask the study, launch, write down how each ended, show what came of it.

All trials run in the process of the search, one after the other, as every `-m` here does: torch is loaded once. A
launcher (hydra/launcher=joblib, submitit) gives each a process of its own, and the same command on several machines
shares the study.
"""

from __future__ import annotations

import gc
import hashlib
import shutil
from collections.abc import Callable, Mapping
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
"""A search whose first trials all fail ends after so many: the fault is in what they share."""

Launch = Callable[[list[list[str]], int], list[Outcome]]


@dataclass(slots=True)
class Search:
    """What a search is about: the words that all trials share, what is drawn, and where it lies."""

    shared: list[str]
    spaces: dict[str, Values | Span]
    sweep: Sweep
    folder: Path


def prepare_search(base: Composed, shared: list[str], asked: dict[str, Values | Span], folder: Path | None) -> Search:
    """The search of a command. `asked` are the ranges on the command line, which win. Raises ConfigError."""
    run, sweep = base.run, base.run.sweep
    refuse_several(run.world_size)
    if run.data.val_fraction == 0 and not getattr(run.data, "val_path", None):
        raise ConfigError("A search needs an evaluation to compare by; give data.val_fraction or data.val_path.")
    knobs = [find_knob(walk_settings(run), run.stage.name, name) for name in sweep.knobs]
    spaces = {k.path: asked.get(k.path) or build_space(k, k.find_usual(run)) for k in knobs} | asked
    said = {word.partition("=")[0] for word in shared}
    spaces = {name: space for name, space in spaces.items() if name not in said}  # a value on the command line is fixed
    if not spaces:
        raise ConfigError(
            "Nothing is searched: name knobs (sweep.knobs=[optim.lr]), or give a range "
            "('optim.lr=interval(1e-5,1e-3)')."
        )
    study = sweep.study or f"{base.choices.get('sweep') or 'sweep'}-{_hash(shared, spaces)}"
    place = folder or Path("runs") / "sweeps" / study
    make_folder(place)
    sweep = replace(sweep, study=study, storage=sweep.storage or f"sqlite:///{place.resolve()}/study.db")
    own = ("sweep.storage", "sweep.study", "run_dir")
    shared = [word for word in shared if word.partition("=")[0] not in own]
    if getattr(run.stage, "prompts", None) is not None and base.provenance["stage.prompts"].kind is Kind.default:
        shared.append("stage.prompts=[]")  # the answers of 30 trials are read by nobody, and take minutes
    return Search(shared, spaces, sweep, place)


def _hash(shared: list[str], spaces: dict[str, Values | Span]) -> str:
    free = ("sweep.", "run_dir", "name", "callback", "logger", "trainer.num_workers")
    facts = sorted(word for word in shared if not word.lstrip("+").startswith(free)) + [
        f"{k}{v}" for k, v in sorted(spaces.items())
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def search(what: Search, base: Composed, launch: Launch) -> None:
    """Run the trials that the study still lacks. Raises Interrupted; TrainingFailed or ConfigError where no trial
    came through."""
    sweep = what.sweep
    study = kept_study.open_study(sweep, open_storage(str(sweep.storage)))
    if not study.get_trials(deepcopy=False):
        base = prepare_run(
            base, build_checked_source(base), settle_precision(base.run.precision, base.run.trainer)
        ).composed  # the trials find the data tokenised
        study.sampler = kept_study.build_sampler(sweep, _choose_advised(base.provenance, base.choices, what.spaces))
    there = len(kept_study.list_counted(study))
    say(f"study {sweep.study} in {sweep.storage}: {there} of {sweep.trials} trials; {', '.join(what.spaces)}")
    failed = 0
    while batch := _claim_next(study, what):
        places = [kept_study.get_trial(study, n).user_attrs.get("folder", str(n)) for n, _ in batch]
        jobs = [
            [
                *what.shared,
                *_format_words(values),
                f"run_dir={quote_verbatim((what.folder / place).resolve())}",
                f"sweep.storage={quote_verbatim(sweep.storage)}",
                f"sweep.study={quote_verbatim(sweep.study)}",
                f"sweep.trial={number}",
            ]
            for (number, values), place in zip(batch, places, strict=True)
        ]
        outcomes = launch(jobs, batch[0][0])
        for (number, values), outcome in zip(batch, outcomes, strict=True):
            if outcome.status in Interrupted.STATUSES:
                kept_study.queue_again(study, sweep, number, what.folder)
                continue
            if outcome.lost:  # it is settled as soon as its process is known to be gone
                if not any((what.folder / place / "status.json").is_file() for place in places):
                    raise ConfigError(f"The launcher could not start a trial: {outcome.why}")
                say(f"trial {number}: {outcome.why}")
                continue
            broken = outcome.status != 0
            kept_study.finish(study, sweep, number, outcome.why, pruned=outcome.pruned, failed=broken)
            failed = failed + 1 if broken else -sweep.trials
            say(_format_line(study, sweep, number, values))
        _forget(study, sweep, what.folder)
        gc.collect()  # a model and its Trainer hold each other
        if (stopped := next((o for o in outcomes if o.status in Interrupted.STATUSES), None)) is not None:
            raise Interrupted.of(stopped.status, f"{stopped.why} The same command goes on with the search.")
        if failed >= HOPELESS and not _list_completed(study):
            why = outcomes[-1].why
            raise ConfigError(
                f"The first {failed} trials failed, the last of them so: {why} Mend it, and give the command again."
            )
    write(study, sweep, what.folder)
    show(
        format_result(
            study, sweep, what.folder, [w for w in what.shared if not w.lstrip("+").startswith("sweep")],
            base.choices.get("sweep", ""),
        )
    )
    if not _list_completed(study):
        raise TrainingFailed(f"No trial of {sweep.study} came to its end; {what.folder / 'trials.jsonl'} says why.")


def _claim_next(study: Any, what: Search) -> list[tuple[int, dict[str, Any]]]:
    """The next trials of this process; those whose process died, here or in another search on this machine, are
    among them."""
    with hold_alone(str(what.sweep.storage)):
        for sentence in kept_study.settle(study, what.sweep, what.folder):
            say(sentence)
        return kept_study.claim_trials(study, what.sweep, what.spaces, what.sweep.at_once, what.folder)


def _choose_advised(
    decisions: Mapping[str, Decision], choices: Mapping[str, str], spaces: dict[str, Values | Span]
) -> dict[str, Any]:
    """What the run would take without a search, where that can be drawn: the first trial, which the others have to
    beat."""
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


def _format_line(study: Any, sweep: Sweep, number: int, values: dict[str, Any]) -> str:
    trial = kept_study.get_trial(study, number)
    shown = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
    why = f", {trial.user_attrs['why']}" if "why" in trial.user_attrs else ""
    value = f" {sweep.metric} {trial.value:.4f}" if trial.state.name == "COMPLETE" else ""
    lead = f"; best so far {study.best_value:.4f} (trial {study.best_trial.number})" if _list_completed(study) else ""
    return f"trial {number} {trial.state.name.lower()}{value}: {shown}{why}{lead}"


def _forget(study: Any, sweep: Sweep, folder: Path) -> None:
    """Remove the checkpoints of the trials that have ended and are not among the best."""
    ended = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and not t.user_attrs.get("again")]
    better = sorted(_list_completed(study), key=lambda t: t.value if str(sweep.goal) == "minimize" else -t.value)
    keep = {t.number for t in better[: sweep.keep]}
    for trial in ended:
        place = folder / trial.user_attrs.get("folder", str(trial.number)) / "checkpoints"
        if trial.number not in keep and place.is_dir():
            shutil.rmtree(place, ignore_errors=True)  # another search may be at it
