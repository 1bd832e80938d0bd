"""The plan for going on with an earlier run, made once: train, plan and the trials of a sweep all act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.checkpoint import resume
from fulgurite.checkpoint.folder import PARTS, list_steps, name_step, parse_step
from fulgurite.checkpoint.resume import CHECKPOINTS, Change
from fulgurite.config.decision import Decision
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import MICRO_BATCH, decide, list_adopted
from fulgurite.errors import CheckpointError
from fulgurite.logger.metrics_file import read_rows
from fulgurite.run.folder import read_config, read_decisions

REWOUND = ("metrics.jsonl", "samples.jsonl", "watch.jsonl")
"""The files of a run that have a row a step."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """How many rows of a file are kept, and how many were written after the checkpoint and are dropped."""

    file: str
    kept: int
    dropped: int

    def __str__(self) -> str:
        return f"{self.file} keeps {self.kept:,} rows" + (f" and drops {self.dropped:,}" if self.dropped else "")


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """From where a run goes on, and what differs from the run that it goes on with."""

    folder: Path
    step: int
    allowed: tuple[Change, ...] = ()
    """What differs and resume.allow names."""
    refused: tuple[Change, ...] = ()
    """What differs and may not."""
    missing: tuple[str, ...] = ()
    """Parts of the checkpoint without which it would not be the same run."""
    adopted: tuple[Decision, ...] = ()
    """What the run takes over from the earlier one in place of its own values."""
    rewinds: tuple[Rewind, ...] = ()
    trackers: tuple[str, ...] = ()
    """The trackers that go on after `step`; each drops what it has of later steps."""

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's folder."""
        return self.folder / CHECKPOINTS / name_step(self.step)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for `plan --json`."""
        return {
            "checkpoint": str(self.checkpoint), "step": self.step, "differs": [change.knob for change in self.refused],
            "allowed": [change.knob for change in self.allowed], "missing": list(self.missing),
            "adopted": {found.parameter: found.value for found in self.adopted},
            "files": {rewind.file: {"kept": rewind.kept, "dropped": rewind.dropped} for rewind in self.rewinds},
            "trackers": list(self.trackers),
        }

    def describe(self) -> str:
        """From where the run goes on, and what becomes of the files, in words."""
        parts = [f"from {self.checkpoint}"]
        parts += [f"{found.parameter}={found.value} as there ({found.reason})" for found in self.adopted]
        parts += [f"with {change}, as resume.allow says" for change in self.allowed]
        parts += [str(rewind) for rewind in self.rewinds]
        parts += [f"{name} goes on after step {self.step:,}" for name in self.trackers]
        return "; ".join(parts)


def plan_resume(composed: Composed, folder: Path, checkpoint: Path) -> ResumePlan:
    """Plans going on from `checkpoint`, of the run in `folder`. Raises RequestError if the run's files cannot be read.
    """
    step = parse_step(checkpoint) or 0
    stored = read_decisions(folder)
    taken = list_adopted(composed.provenance.get(MICRO_BATCH), stored, composed.run.resume.allow)
    now = decide(composed, *taken)
    derived = {name for name, decision in now.provenance.items() if decision.derived}
    following = derived & {name for name, decision in stored.items() if decision.derived}
    allowed, refused = resume.split_changes(
        read_config(folder), now.dump_config(), composed.run.resume.allow, following
    )
    return ResumePlan(
        folder,
        step,
        tuple(allowed),
        tuple(refused),
        tuple(part for part in PARTS if not (checkpoint / part).is_file()),
        tuple(taken),
        tuple(_list_rewinds(folder, step)),
        tuple(composed.run.logger),
    )


def preview_resume(composed: Composed, folder: Path | None) -> ResumePlan | None:
    """The plan by the names of the newest checkpoint's files, None if there is none; training reads the files whole."""
    found = list_steps(folder / CHECKPOINTS) if folder is not None else []
    if folder is None or not found:
        return None
    return plan_resume(composed, folder, folder / CHECKPOINTS / name_step(found[-1]))


def find_resume(composed: Composed, folder: Path, say: Callable[[str], None]) -> ResumePlan | None:
    """The plan from the newest whole checkpoint, None for a fresh run; `say` hears of each checkpoint that is skipped.

    Raises CheckpointError if there is none although resume.run names the folder, or if what differs is not allowed.
    """
    checkpoint = resume.find(folder, say)
    if checkpoint is None:
        if composed.run.resume.run is not None:
            raise CheckpointError(f"{folder} has no checkpoint to go on from; start it again without resume.run.")
        return None
    plan = plan_resume(composed, folder, checkpoint)
    resume.refuse_changes(plan.refused, folder, composed.run.resume.allow)
    for change in plan.allowed:
        say(f"resumed with {change}, as resume.allow says")
    return plan


def check_resume(
    plan: ResumePlan, inputs: dict[str, str] | None, allow: Sequence[str], patience: int | None, total_steps: int,
    say: Callable[[str], None],
) -> None:
    """Raises CheckpointError if the run is finished, or if a file it computes with has changed.

    `inputs` are the hashes of these files; None skips the comparison.
    """
    if inputs is not None:
        for line in resume.check_inputs(plan.checkpoint, inputs, allow):
            say(line)
    resume.check_unfinished(plan.folder, plan.step, total_steps)
    resume.check_patient(plan.checkpoint, patience)


def _list_rewinds(folder: Path, step: int) -> list[Rewind]:
    found = []
    for name in REWOUND:
        path = folder / name
        if path.is_file():
            rows, _ = read_rows(path)
            kept = sum(row["step"] <= step for row in rows)
            found.append(Rewind(name, kept, len(rows) - kept))
    return found
