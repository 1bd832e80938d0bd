"""The plan for resuming an earlier run, made once and used by train, plan and the trials of a sweep."""

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
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.metrics_file import read_rows
from fulgurite.run.folder import read_config, read_decisions

REWOUND = ("metrics.jsonl", "samples.jsonl", "watch.jsonl")
"""The files of a run that have rows with steps."""


@dataclass(frozen=True, slots=True)
class Rewind:
    """The rows of a file that are kept, and those that were written after the checkpoint and are dropped."""

    file: str
    kept: int
    dropped: int

    def __str__(self) -> str:
        if self.dropped:
            kept = message("{file} keeps {kept:,} rows and drops {dropped:,}", file=self.file, kept=self.kept,
                           dropped=self.dropped)
        else:
            kept = message("{file} keeps {kept:,} rows", file=self.file, kept=self.kept)
        return str(kept)


@dataclass(frozen=True, slots=True)
class ResumePlan:
    """The checkpoint that a run resumes from, and the differences from the earlier run."""

    folder: Path
    step: int
    allowed: tuple[Change, ...] = ()
    """The differences that resume.allow names."""
    refused: tuple[Change, ...] = ()
    """The differences that are not allowed."""
    missing: tuple[str, ...] = ()
    """Missing parts of the checkpoint, without which the run cannot be resumed exactly."""
    adopted: tuple[Decision, ...] = ()
    """The values that the run takes over from the earlier one in place of its own."""
    rewinds: tuple[Rewind, ...] = ()
    trackers: tuple[str, ...] = ()
    """The trackers that continue after `step`; each drops its data of later steps."""

    @property
    def checkpoint(self) -> Path:
        """The folder of the checkpoint."""
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
        """Returns the checkpoint, the differences, and what happens to the files, in the language in use."""
        parts: list[object] = [message("from {path}", path=self.checkpoint)]
        for found in self.adopted:
            parts.append(message(
                "{parameter}={value} as in the earlier run ({reason})",
                parameter=found.parameter, value=found.value, reason=found.reason,
            ))
        parts += [message("with {change}, as resume.allow permits", change=str(change)) for change in self.allowed]
        parts += self.rewinds
        parts += [message("{name} continues after step {step:,}", name=name, step=self.step) for name in self.trackers]
        return "; ".join(map(str, parts))


def plan_resume(composed: Composed, folder: Path, checkpoint: Path) -> ResumePlan:
    """Plans to resume the run in `folder` from `checkpoint`. Raises RequestError if the run's files cannot be read."""
    step = parse_step(checkpoint) or 0
    stored = read_decisions(folder)
    taken = list_adopted(composed.provenance.get(MICRO_BATCH), stored, composed.run.resume.allow)
    now = decide(composed, *taken)
    # if a change is allowed, values that were derived in both runs may follow it
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
    """Returns the plan by the names of the newest checkpoint's files, None if there is none; only training reads the
    files themselves."""
    found = list_steps(folder / CHECKPOINTS) if folder is not None else []
    if folder is None or not found:
        return None
    return plan_resume(composed, folder, folder / CHECKPOINTS / name_step(found[-1]))


def find_resume(composed: Composed, folder: Path, say: Callable[[UserMessage], None]) -> ResumePlan | None:
    """Returns the plan from the newest whole checkpoint, None for a new run; calls `say` for each checkpoint that is
    skipped.

    Raises CheckpointError if there is none although resume.run names the folder, or if a difference is not allowed.
    """
    checkpoint = resume.find(folder, say)
    if checkpoint is None:
        if composed.run.resume.run is not None:
            raise CheckpointError(
                "{path} has no checkpoint to resume from; start the run again without resume.run.", path=folder
            )
        return None
    plan = plan_resume(composed, folder, checkpoint)
    resume.refuse_changes(plan.refused, folder, composed.run.resume.allow)
    for change in plan.allowed:
        say(message("resumed with {change}, as resume.allow permits", change=str(change)))
    return plan


def check_resume(
    plan: ResumePlan, inputs: dict[str, str] | None, allow: Sequence[str], patience: int | None, total_steps: int,
    say: Callable[[UserMessage], None],
) -> None:
    """Raises CheckpointError if the run is finished, or if a file that it uses has changed.

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
