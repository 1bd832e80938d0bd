"""Whether and where a run goes on: the newest whole checkpoint, under the same config."""

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

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
FREE = (
    "run_dir", "name", "plugins", "resume", "plan", "monitor", "sweep", "logger",
    "trainer.log_every", "trainer.keep_checkpoints", "trainer.save_every", "trainer.num_workers",
    "trainer.profiler", "trainer.detect_anomaly", "trainer.enable_model_summary",
)
"""Knobs and groups that change nothing in the mathematics; every other knob makes a run what it is."""
INPUTS = {
    "weights": "the weights that training begins from", "model_config": "config.json of the model", "tokenizer": "the "
        "tokenizer's files",
    "reference": "the model of stage.reference", "adapter": "the adapter of method.adapter_path",
    "reward": "a reward function's file or a reward model of stage.reward",
}
"""What lies in files beside the run and is compared by hash, see `inputs.py`."""
NAMED_BY = {
    "weights": "model.path", "model_config": "model.path", "tokenizer": "model.path", "reference": "stage.reference",
    "adapter": "method.adapter_path", "reward": "stage.reward",
}
"""The knob that names an input: where another one may be named, its files may differ."""
BESIDE = ("version", "start", *INPUTS)
"""What resume.allow may name though no knob is called so: see `identity` of the callback that makes checkpoints."""
ABSENT = "(absent)"
OPTION = ".option"
"""Where a resolved config keeps the name of a group's option."""


@dataclass(frozen=True, slots=True)
class Change:
    """A knob that differs between a run and the one that would go on from it."""

    knob: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.knob in INPUTS:
            return f"{self.knob} ({INPUTS[self.knob]}) has changed since"
        return f"{self.knob} {_shown(self.old)} → {_shown(self.new)}"


def _shown(value: Any) -> str:
    text = value if value == ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def find(run_dir: Path, say: Callable[[str], None] = log.warning) -> Path | None:
    """The newest whole checkpoint of a run, or None where it has none yet; `say` hears of each that is skipped.

    A run that was killed between a checkpoint and its links gets the links renewed. Raises CheckpointError where there
    are checkpoints and none is whole: a run never starts afresh in silence.
    """
    path, skipped = folder.find_newest_whole(run_dir / CHECKPOINTS)
    for bad, reason in skipped:
        say(f"{bad} is skipped: {reason}.")
    if path is None and skipped:
        raise CheckpointError(
            f"{run_dir / CHECKPOINTS} has no whole checkpoint ({skipped[0][0].name}: {skipped[0][1]}); "
            "restore one, or start afresh in another run_dir."
        )
    if path is not None:
        _renew_links(path, say)
    return path


def _renew_links(path: Path, say: Callable[[str], None]) -> None:
    position = json.loads((path / "state.json").read_bytes())["state"].get(loop.KEY, {})
    step = folder.parse_step(path)
    try:
        if step is not None and (path.parent / "last").resolve() != path.resolve():
            folder.update_links(path.parent, step, position.get("best_step"))
    except OSError as error:
        say(f"{path.parent}: the links last and best could not be renewed: {error.strerror}.")


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The knobs that differ between two resolved configs and make a run what it is; another option is one change."""
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = sorted(before.keys() | after.keys())
    every = [Change(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    found = [change for change in every if change.old != change.new and not _is_free(change.knob)]
    switched = [change.knob.removesuffix(OPTION) for change in found if change.knob.endswith(OPTION)]
    return [
        replace(change, knob=change.knob.removesuffix(OPTION))
        for change in found if change.knob.endswith(OPTION) or not _covered(change.knob, switched)
    ]


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], allow: Sequence[str], following: Collection[str] = ()
) -> list[str]:
    """The changes that `allow` does not name, as `knob old → new`. Raises ConfigError where `allow` names no knob."""
    return [str(change) for change in split_changes(old, new, allow, following)[1]]


def split_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], allow: Sequence[str], following: Collection[str]
) -> tuple[list[Change], list[Change]]:
    """The changes that `allow` names, and the others. Raises ConfigError if `allow` names no parameter."""
    known = {*BESIDE, *(key.removesuffix(OPTION) for config in (old, new) for key, _ in _flat(config))}
    known |= {key.rpartition(".")[0] for key in known if "." in key}
    for name in allow:
        if name in RENAMED and name not in known:
            raise ConfigError(f"resume.allow={name}: {describe_renamed(name, RENAMED[name])}")
        if name not in known:
            raise ConfigError(f"resume.allow={name} names no knob of the run.{suggest_similar(name, known)}")
    found = changes(old, new)
    if any(_covered(change.knob, allow) for change in found):
        allow = [*allow, *following]
    return [c for c in found if _covered(c.knob, allow)], [c for c in found if not _covered(c.knob, allow)]


def check_same(
    old: Mapping[str, Any], new: Mapping[str, Any], allow: Sequence[str], place: Path, following: Collection[str] = (),
    kept: Sequence[str] = (),
) -> list[Change]:
    """The allowed changes, for the log. Raises CheckpointError with every other change and the remedy.

    `following` are knobs that were derived in both runs: where a change is allowed, so is what follows from it. `kept`
    are names that are allowed elsewhere, which the remedy repeats.
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
            f"This run differs from {place}: {'; '.join(map(str, refused))}; "
            f"say resume.allow=[{names}] if that is meant, or choose another run_dir."
        )


def check_inputs(checkpoint: Path, now: Mapping[str, str], allow: Sequence[str]) -> list[str]:
    """What a resumed run says about the files that it computes with.

    Raises CheckpointError if one changed and `allow` does not name it.
    """
    then = json.loads((checkpoint / "state.json").read_bytes())["state"].get(loop.KEY, {}).get("identity", {})
    old, new = comparable(then, now)
    old, new = ({name: value for name, value in side.items() if name in INPUTS} for side in (old, new))
    allowed = check_same(old, new, allowed_beside(allow, new), checkpoint.parent.parent, kept=allow)
    unknown = [name for name in INPUTS if (name in then) != (name in now)]
    lines = [f"resumed although {change}, as resume.allow says" for change in allowed]
    return lines + (
        [f"not compared with the earlier run, which has no hash to compare with: {', '.join(unknown)}"]
        if unknown
        else []
    )


def allowed_beside(allow: Sequence[str], identity: Mapping[str, Any]) -> list[str]:
    """The names of an identity that may differ: those in `allow`, and the inputs that an allowed knob names."""
    return [name for name in identity if name in allow or (name in NAMED_BY and _covered(NAMED_BY[name], allow))]


def comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two identities without the inputs that only one of them has: older runs have none, and only the first process
    hashes files.
    """
    lone = {name for name in INPUTS if (name in old) != (name in new)}
    return {k: v for k, v in old.items() if k not in lone}, {k: v for k, v in new.items() if k not in lone}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _covered(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _is_free(key: str) -> bool:
    """Whether a parameter changes nothing in the mathematics: one of FREE, or of a callback that only watches."""
    group, _, name = key.partition(".")
    if group != "callback":
        return _covered(key, FREE)
    option = list_options("callback").get(name.partition(".")[0])
    return not name or bool(getattr(option, "only_watches", False))


def check_patient(checkpoint: Path, patience: int | None) -> None:
    """Raise CheckpointError where early stopping ended the run and `patience` would end it again."""
    kept = json.loads((checkpoint / "state.json").read_bytes())["state"].get("callbacks", {}).get("patience", {})
    if patience is not None and (waited := int(kept.get("wait_count", 0))) >= patience:
        raise CheckpointError(
            f"{checkpoint.parent.parent} stopped early at step {folder.parse_step(checkpoint)}: val/loss had not "
            f"fallen for {waited} "
            f"evaluations, and trainer.early_stopping_patience={patience}; raise it and say "
            f"resume.allow=[trainer.early_stopping_patience], or begin a new run from its "
            "weights (model.path=...)."
        )


def check_unfinished(run_dir: Path, step: int, total: int) -> None:
    """Raise CheckpointError where all `total` optimizer steps of the plan are done."""
    if step >= total:
        raise CheckpointError(
            f"{run_dir} finished at step {step} of {total}: there is nothing to resume; raise trainer.epochs or "
            "trainer.max_steps and say so in resume.allow, or begin a new run from its weights (model.path=...)."
        )
