"""Finds the checkpoint that a run resumes from, and compares its config with the new one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fulgurite.checkpoint import folder, loop
from fulgurite.config.renamed import RENAMED, describe_renamed
from fulgurite.config.schema import list_options
from fulgurite.errors import CheckpointError, ConfigError, suggest_similar
from fulgurite.language.library_errors import translate_system_error
from fulgurite.language.message import UserMessage, message

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
FREE = (
    "run_dir", "name", "plugins", "resume", "plan", "monitor", "sweep", "launcher", "logger",
    "trainer.log_every", "trainer.keep_checkpoints", "trainer.save_every", "trainer.num_workers",
    "trainer.profiler", "trainer.detect_anomaly", "trainer.enable_model_summary",
    "strategy.shard_checkpoint_gb",
)
"""Parameters and groups that do not change the results; a change of any other makes another run."""
INPUTS = {
    "weights": message("the weights that training begins from"),
    "model_config": message("config.json of the model"),
    "tokenizer": message("the files of the tokenizer"),
    "reference": message("the model of stage.reference"),
    "adapter": message("the adapter of method.adapter_path"),
    "reward": message("a reward function's file or a reward model of stage.reward"),
}
"""Files outside the run folder that are compared by hash, see `run/input_hashes.py`."""
NAMED_BY = {
    "weights": "model.path", "model_config": "model.path", "tokenizer": "model.path", "reference": "stage.reference",
    "adapter": "method.adapter_path", "reward": "stage.reward",
}
"""The parameter that names an input: if it may change, the files may differ."""
BESIDE = ("version", "start", *INPUTS)
"""Names that resume.allow takes beside parameters: see `identity` of the callback that writes checkpoints."""
ABSENT = "(absent)"
OPTION = ".option"
"""The key of a resolved config for the name of a group's option."""


@dataclass(frozen=True, slots=True)
class Change:
    """A parameter that differs between a run and the one that would resume it."""

    knob: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.knob in INPUTS:
            return str(message("{name} ({what}) has changed", name=self.knob, what=INPUTS[self.knob]))
        return f"{self.knob} {_format_value(self.old)} → {_format_value(self.new)}"


def _format_value(value: Any) -> str:
    text = value if value == ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def find(run_dir: Path, say: Callable[[UserMessage], None] = log.warning) -> Path | None:
    """Returns the newest whole checkpoint of a run, or None if it has none yet; calls `say` for each that is skipped.

    Renews the links of a run that was killed between a checkpoint and its links. Raises CheckpointError if there
    are checkpoints and none is whole: a run never starts again from step 0 in silence.
    """
    path, skipped = folder.find_newest_whole(run_dir / CHECKPOINTS)
    for bad, reason in skipped:
        say(message("Skipping the damaged checkpoint {path}: {reason}.", path=bad, reason=reason))
    if path is None and skipped:
        raise CheckpointError(
            "{path} has no whole checkpoint ({name}: {reason}); restore one, or start again in another run_dir.",
            path=run_dir / CHECKPOINTS, name=skipped[0][0].name, reason=skipped[0][1],
        )
    if path is not None:
        _renew_links(path, say)
    return path


def _renew_links(path: Path, say: Callable[[UserMessage], None]) -> None:
    # The position is plain JSON, so no tensor has to be read.
    position = json.loads((path / "state.json").read_bytes())["state"].get(loop.KEY, {})
    step = folder.parse_step(path)
    try:
        if step is not None and (path.parent / "last").resolve() != path.resolve():
            folder.update_links(path.parent, step, position.get("best_step"))
    except OSError as error:
        say(message(
            "The links last and best in {path} could not be renewed: {reason}.",
            path=path.parent, reason=translate_system_error(error),
        ))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Returns the parameters that differ between two resolved configs and change results; another option of a group is
    one change."""
    before, after = dict(_flat(old)), dict(_flat(new))
    # A key of one side only counts as a change: its value is ABSENT on the other.
    keys = sorted(before.keys() | after.keys())
    every = [Change(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    found = [change for change in every if change.old != change.new and not _is_free(change.knob)]
    # if the option changed, its parameters differ of course, and are not listed one by one
    switched = [change.knob.removesuffix(OPTION) for change in found if change.knob.endswith(OPTION)]
    return [
        replace(change, knob=change.knob.removesuffix(OPTION))
        for change in found if change.knob.endswith(OPTION) or not _covered(change.knob, switched)
    ]


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], allow: Sequence[str], following: Collection[str] = ()
) -> list[str]:
    """Returns the changes that `allow` does not name, as `parameter old → new`. Raises ConfigError if `allow` names no
    parameter."""
    return [str(change) for change in split_changes(old, new, allow, following)[1]]


def split_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], allow: Sequence[str], following: Collection[str]
) -> tuple[list[Change], list[Change]]:
    """Returns the changes that `allow` names, and the others. Raises ConfigError if `allow` names no parameter."""
    known = {*BESIDE, *(key.removesuffix(OPTION) for config in (old, new) for key, _ in _flat(config))}
    # Groups may be allowed as a whole: resume.allow=[optim].
    known |= {key.rpartition(".")[0] for key in known if "." in key}
    for name in allow:
        if name in RENAMED and name not in known:
            raise ConfigError(
                "resume.allow={name}: {renamed}",
                name=name, renamed=describe_renamed(name, RENAMED[name]),
            )
        if name not in known:
            raise ConfigError(
                "resume.allow={name} names no parameter of the run.{hint}", name=name, hint=suggest_similar(name, known)
            )
    found = changes(old, new)
    if any(_covered(change.knob, allow) for change in found):
        # Only together with a change that was allowed: a derived value that moved by itself is reported.
        allow = [*allow, *following]
    return [c for c in found if _covered(c.knob, allow)], [c for c in found if not _covered(c.knob, allow)]


def check_same(
    old: Mapping[str, Any], new: Mapping[str, Any], allow: Sequence[str], place: Path, following: Collection[str] = (),
    kept: Sequence[str] = (),
) -> list[Change]:
    """Returns the allowed changes, for the log. Raises CheckpointError with every other change and the remedy.

    `following` are parameters that were derived in both runs: if a change is allowed, so are the values derived from
    it. `kept` are names that are allowed elsewhere, which the remedy repeats.
    """
    allowed, refused = split_changes(old, new, allow, following)
    refuse_changes(refused, place, [*allow, *kept])
    return allowed


def refuse_changes(refused: Sequence[Change], place: Path, allow: Sequence[str]) -> None:
    """Raises CheckpointError with every change that is not allowed, and the remedy, which repeats what `allow` names.
    """
    if refused:
        names = ",".join(sorted({*allow, *(change.knob for change in refused)}))
        raise CheckpointError(
            "This run differs from {path}: {changes}. Add resume.allow=[{names}] if that is intended, or choose "
            "another run_dir.",
            path=place, changes="; ".join(map(str, refused)), names=names,
        )


def check_inputs(checkpoint: Path, now: Mapping[str, str], allow: Sequence[str]) -> list[UserMessage]:
    """Returns the lines that a resumed run prints about the files that it uses.

    Raises CheckpointError if one changed and `allow` does not name it.
    """
    then = json.loads((checkpoint / "state.json").read_bytes())["state"].get(loop.KEY, {}).get("identity", {})
    old, new = comparable(then, now)
    old, new = ({name: value for name, value in side.items() if name in INPUTS} for side in (old, new))
    allowed = check_same(old, new, allowed_beside(allow, new), checkpoint.parent.parent, kept=allow)
    unknown = [name for name in INPUTS if (name in then) != (name in now)]
    lines = [message("resumed although {change}, as resume.allow permits", change=str(change)) for change in allowed]
    if unknown:
        lines.append(
            message(
                "not compared with the earlier run, which has no hashes of them: {names}", names=", ".join(unknown)
            )
        )
    return lines


def allowed_beside(allow: Sequence[str], identity: Mapping[str, Any]) -> list[str]:
    """Returns the names of an identity that may differ: those in `allow`, and the inputs that an allowed parameter
    names."""
    return [name for name in identity if name in allow or (name in NAMED_BY and _covered(NAMED_BY[name], allow))]


def comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two identities without the inputs that only one of them has: older runs have none, and only the first process
    hashes files.
    """
    # An input that one side did not hash is not different, only unknown; `check_inputs` reports it.
    lone = {name for name in INPUTS if (name in old) != (name in new)}
    return {k: v for k, v in old.items() if k not in lone}, {k: v for k, v in new.items() if k not in lone}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        # An empty mapping is a value: as a branch it would vanish from the comparison.
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _covered(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _is_free(key: str) -> bool:
    """Returns whether a parameter does not change the results: one of FREE, or of a callback that only observes."""
    group, _, name = key.partition(".")
    if group != "callback":
        return _covered(key, FREE)
    option = list_options("callback").get(name.partition(".")[0])
    # An unknown callback of a plug-in may change the training, so it counts.
    return not name or bool(getattr(option, "only_watches", False))


def check_patient(checkpoint: Path, patience: int | None) -> None:
    """Raises CheckpointError if early stopping ended the run and `patience` would end it again."""
    kept = json.loads((checkpoint / "state.json").read_bytes())["state"].get("callbacks", {}).get("patience", {})
    if patience is not None and (waited := int(kept.get("wait_count", 0))) >= patience:
        raise CheckpointError(
            "{path} stopped early at step {step}: val/loss had not fallen for {waited} evaluations, with "
            "trainer.early_stopping_patience={patience}. Raise it and add "
            "resume.allow=[trainer.early_stopping_patience], or begin a new run from its weights "
            "(model.path=...).",
            path=checkpoint.parent.parent, step=folder.parse_step(checkpoint), waited=waited, patience=patience,
        )


def check_unfinished(run_dir: Path, step: int, total: int) -> None:
    """Raises CheckpointError if all `total` optimizer steps of the plan are done."""
    if step >= total:
        raise CheckpointError(
            "{path} finished at step {step} of {total}: nothing is left to resume. Raise trainer.epochs or "
            "trainer.max_steps and name it in resume.allow, or begin a new run from its weights (model.path=...).",
            path=run_dir, step=step, total=total,
        )
