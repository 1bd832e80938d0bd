"""Resolves a run: the only module that sets values of a config or decides on one.

Each function returns another `Composed`, whose config is frozen: `resolve` makes the first one from what was composed,
`fill` gives empty parameters their values as soon as the data and the steps are known,
`decide` records what training finds out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from fulgurite.config.check_value import check
from fulgurite.config.decision import GIVEN, Decision, Kind
from fulgurite.config.facts import Facts
from fulgurite.config.frozen import FrozenDict, FrozenList, freeze, thaw
from fulgurite.config.guard import refuse_secret
from fulgurite.config.override_names import decode_key, read_name
from fulgurite.config.provenance import Composed, Unusual, to_plain
from fulgurite.config.run import PRESETS, SEVERAL, RunConfig
from fulgurite.config.schema import Derived, Knob, Range, Usual, list_knobs, walk_settings
from fulgurite.config.sweep import Sweep
from fulgurite.language.catalogue import DeclaredText
from fulgurite.language.message import UserMessage, as_message, message

MICRO_BATCH = "trainer.micro_batch_size"


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a command: its number in a multirun, and the folder that Hydra has for it."""

    multirun: bool = False
    number: int | None = None
    folder: str = "."


def resolve(run: RunConfig, choices: Mapping[str, str], overrides: Sequence[str], job: Job) -> Composed:
    """Checks what was composed, decides on every parameter as far as the config alone allows, and freezes it.

    Raises ConfigError for a value that is out of bounds.
    """
    given = {read_name(text) for text in overrides}
    decisions: dict[str, Decision] = {}
    unusual: list[Unusual] = []
    run = thaw(run)
    for knob, value in walk_settings(run):
        check(knob, value)
        refuse_secret(knob.path, str(value))
        value = knob.make_paths_absolute(value)
        # keys that Hydra cannot read were encoded before it saw them
        value = {decode_key(key): item for key, item in value.items()} if isinstance(value, dict) else value
        _set_at(run, knob.path, value)
        decisions[knob.path] = _decide_first(knob, value, given, choices)
        # only what a person or a preset has set is judged: a default or a derived value is no surprise
        usual = knob.find_usual(run) if value is not None and decisions[knob.path].kind in GIVEN else None
        unusual += _find_unusual(knob, value, usual)
    composed = Composed(run, FrozenDict(choices), decisions, FrozenList(overrides), job.multirun, FrozenList(unusual))
    folder = _choose_run_folder(run.run_dir, run.resume.run, decisions, job, run.sweep.trial)
    group = _choose_trial_group(run.logger, run.sweep, run.run_dir, job)
    return fill(decide(composed, *_choose_run_name(run.name, choices), *folder, *group), Facts(), "config")


def _decide_first(knob: Knob, value: Any, given: set[str], choices: Mapping[str, str]) -> Decision:
    """Where a composed value came from: the command line (`given`), a preset (`choices`), or the default."""
    shown = to_plain(value)
    if knob.path in given or any(name.startswith(f"{knob.path}.") for name in given):
        return Decision(knob.path, shown, Kind.command_line)
    if value == knob.default:
        words = knob.empty.words if value is None and knob.empty else ""
        return Decision(knob.path, shown, Kind.default, UserMessage(words))
    # It differs from the default and was not typed: it comes from a preset or, without one, from the option's own file.
    group = knob.path.partition(".")[0]
    presets = [f"{preset}={choices[preset]}" for preset in PRESETS if choices.get(preset, "None") != "None"]
    source = ", ".join(presets) or f"conf/{group}/{choices.get(group)}.yaml"
    return Decision(knob.path, shown, Kind.preset, message("{source}", source=source))


def _find_unusual(knob: Knob, value: Any, usual: Usual | None) -> Iterator[Unusual]:
    if not isinstance(usual, Range):
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool) and not usual.has(item):
            yield Unusual(knob.path, message(
                "{name}={value} is outside what is usual here ({usual}). {advice}",
                name=knob.path, value=item, usual=usual.describe(),
                advice=DeclaredText(knob.path, "advice", knob.advice),
            ))


def _choose_run_name(given: str | None, choices: Mapping[str, str]) -> Iterator[Decision]:
    if given is None:
        name = "-".join((choices["stage"], choices["method"], choices["model"]))
        yield Decision("name", name, Kind.derived, message("stage, method and model"))


def _choose_run_folder(
    run_dir: str | None, resumed: str | None, decisions: Mapping[str, Decision], job: Job, trial: int | None,
) -> Iterator[Decision]:
    """The folders of the run and of the one to resume: `~` is the home directory, and each
    job of several has its own."""
    for path, folder in (("run_dir", run_dir), ("resume.run", resumed)):
        if folder is not None and folder.startswith("~"):  # not every shell replaces it behind `=`
            yield replace(decisions[path], value=os.path.expanduser(folder))
    if job.multirun and run_dir is None:
        why = message("the sweep's folder and the job's number")
        yield Decision("run_dir", str(Path(job.folder)), Kind.derived, why)
    elif job.multirun and run_dir is not None and trial is None and job.number is not None:
        folder = str(Path(os.path.expanduser(run_dir)) / str(job.number))
        yield Decision("run_dir", folder, Kind.derived, message("the folder that was given, and the job's number"))


def _choose_trial_group(
    loggers: Mapping[str, Any], sweep: Sweep, run_dir: str | None, job: Job,
) -> Iterator[Decision]:
    """Puts the runs of one search, or of one `-m`, into one group of each tracker that has groups and none is set."""
    if sweep.trial is not None and sweep.study:
        name, why = sweep.study, message("the study of the search")
    elif job.multirun:
        folder = Path(os.path.expanduser(run_dir)) if run_dir is not None else Path(job.folder).parent
        last = folder.parts[-2:] if run_dir is None else folder.parts[-1:]  # Hydra's are a date and a time
        name, why = "-".join(last), message("the runs of `-m`")
    else:
        return
    for option, config in loggers.items():
        parameter = getattr(config, "trial_group", "")
        if parameter and getattr(config, parameter) is None:
            yield Decision(f"logger.{option}.{parameter}", name, Kind.derived, why)


def fill(composed: Composed, facts: Facts, needs: str) -> Composed:
    """Fills the empty parameters whose rule needs `needs`: the "config" alone, the "data", or the "steps"."""
    run, decisions = fill_run(composed.run, facts, needs)
    return replace(composed, run=run, provenance=_merge(composed.provenance, decisions))


def fill_run(run: RunConfig, facts: Facts, needs: str = "config") -> tuple[RunConfig, list[Decision]]:
    """As `fill`, of a config alone. A rule sees what those before it have filled."""
    changed, decisions = thaw(run), []
    # the run itself comes last, so that its rules see the groups filled
    several = [option for group in SEVERAL for option in getattr(changed, group).values()]
    for node in (*(getattr(changed, field.name) for field in fields(changed)), *several, changed):
        cls: type = type(node)
        for knob, rule in _list_rules(cls, needs):
            if getattr(node, knob.name) is None:
                derived = rule(changed, facts)
                setattr(node, knob.name, derived.value)
                why = as_message(derived.reason)
                decisions.append(Decision(knob.path, derived.value, Kind.derived, why, derived.sure))
    return freeze(changed), decisions


@cache
def _list_rules(cls: type, needs: str) -> tuple[tuple[Knob, Callable[[RunConfig, Facts], Derived]], ...]:
    """The parameters of a config class that a rule can fill, and the rule. Kept:
    a table of `explain` asks for many runs."""
    knobs = list_knobs(cls) if is_dataclass(cls) else ()
    return tuple((k, k.empty.rule) for k in knobs if k.empty and k.empty.rule and k.empty.needs == needs)


def decide(composed: Composed, *decisions: Decision) -> Composed:
    """Gives parameters the values of these decisions."""
    run = thaw(composed.run)
    for decision in decisions:
        _set_at(run, decision.parameter, decision.value)
    return replace(composed, run=freeze(run), provenance=_merge(composed.provenance, decisions))


def note(composed: Composed, decision: Decision) -> Composed:
    """Records a decision that no parameter holds, such as the option that precision=auto chooses."""
    return replace(composed, provenance=_merge(composed.provenance, [decision]))


def replace_parts(composed: Composed, **parts: Any) -> Composed:
    """The same run with other groups, such as `logger={}`; what they hold is not among the decisions."""
    return replace(composed, run=freeze(replace(thaw(composed.run), **thaw(parts))))


def put_in_folder(composed: Composed, folder: Path) -> Composed:
    """The same run in its folder, whatever named it; a resumed one names it too. The decision on `run_dir` stays."""
    run = thaw(composed.run)
    run.run_dir = str(folder.absolute())
    run.resume.run = run.run_dir if run.resume.run is not None else None
    return replace(composed, run=freeze(run))


def halve(composed: Composed, step: int) -> Composed:
    """The same run with half the micro-batch, after the memory ran out at `step`."""
    before = composed.run.trainer.micro_batch_size
    why = message(
        "halved from {before}, which was out of memory at step {step}; the mathematics is the same",
        before=before, step=step,
    )
    return decide(composed, Decision(MICRO_BATCH, before // 2, Kind.halved, why))


def list_adopted(now: Decision | None, stored: Mapping[str, Decision], allow: Sequence[str]) -> list[Decision]:
    """What a resumed run takes from the decisions of the run it goes on with; `now` is its own on the micro-batch.

    That is the micro-batch, if it was halved on the way, or derived then as now:
    the memory that is free at a start is no part of what makes a run, and the same micro-batches give the same bits.
    """
    then = stored.get(MICRO_BATCH)
    if then is None or MICRO_BATCH in allow:
        return []
    # a micro-batch that was typed now is compared, as any other parameter, and not taken over
    both_derived = then.derived and now is not None and now.derived
    return [then] if both_derived or then.kind is Kind.halved else []


def _merge(before: Mapping[str, Decision], decisions: Iterable[Decision]) -> Mapping[str, Decision]:
    merged = {**before, **{decision.parameter: decision for decision in decisions}}
    return FrozenDict(merged)


def _set_at(config: Any, path: str, value: Any) -> None:
    """Sets the parameter at a dotted path; a part of the path may be a key of a mapping (`logger.wandb.project`)."""
    node: Any = config
    *parents, last = path.split(".")
    for name in parents:
        node = node[name] if isinstance(node, dict) else getattr(node, name)
    setattr(node, last, value)
