"""A run as the page shows it: in the list, and in full."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fulgurite.board.findings import ENDED_BADLY, find_symptom, read_findings
from fulgurite.board.roots import Roots
from fulgurite.board.runs import KnownRun
from fulgurite.board.samples import read_samples
from fulgurite.config.override_names import read_name
from fulgurite.files.json import read_object
from fulgurite.language.message import message
from fulgurite.language.stored import describe_reason
from fulgurite.run.listing import STATES

OWN_FOLDER = ("run_dir", "resume.run", "sweep.storage", "sweep.study", "sweep.trial")
"""Words about the folder of a run, which its command is shown without."""


def describe_run(run: KnownRun, roots: Roots) -> dict[str, Any]:
    """Returns a run for the list."""
    summary = run.summary
    root, inner = roots.find_root(run.folder)
    obstacle = run.find_obstacle()
    return {
        "id": run.id, "root": root, "folder": inner, "path": roots.shorten(run.folder), "name": summary.name,
        "state": summary.state, "state_text": str(STATES[summary.state]), "why": describe_reason(run.status),
        "started": summary.started, "seconds": summary.seconds, "steps": summary.steps,
        "total_steps": summary.total_steps, "loss": summary.loss, "val_loss": summary.val_loss,
        "best_val_loss": summary.best_val_loss, "choices": summary.choices, "live": run.is_live,
        "eta": run.forecast(), "tokens_per_second": run.speed, "can_resume": obstacle is None,
        "why_not": "" if obstacle is None else str(obstacle), "checkpoint": run.checkpoint, "sweep": run.sweep,
        "troubles": [str(trouble) for trouble in summary.troubles],
    }


def describe_details(run: KnownRun, roots: Roots) -> dict[str, Any]:
    """Returns what the page of a run needs beside `describe_run`, apart from its draft."""
    findings = read_findings(run.folder)
    given = {name: run.summary.knobs.get(name) for name in run.summary.given}
    ended_badly = run.summary.state in ENDED_BADLY
    why = str(run.status.get("why") or "")
    return {
        "given": given, "findings": findings, "samples": read_samples(run.folder),
        "diagnosis": describe_failure(run) if ended_badly else "",
        "symptom": find_symptom(findings, why) if ended_badly else None,
        "command": read_command(run.folder),
    }


def describe_failure(run: KnownRun) -> str:
    """Returns the paragraph about a run that ended badly, as the command printed it."""
    if reason := describe_reason(run.status):
        return reason
    if run.summary.state == "died":
        lost = message(
            "The process of this run ended without a word, as when it is killed or memory runs out. Its last step on "
            "disk is {step}.", step=run.summary.steps,
        )
        return str(lost)
    if run.summary.state == "diverged":
        return str(message("The loss rose and stayed high: the model is not better than before training."))
    return ""


def read_command(folder: Path) -> str:
    """Returns the command line of a run, without its folder; empty if provenance.json cannot be read."""
    try:
        found: Mapping[str, Any] = read_object(folder / "provenance.json")
    except (OSError, ValueError):
        return ""
    words = found.get("overrides")
    if not isinstance(words, list):
        return ""
    kept = [word for word in words if isinstance(word, str) and read_name(word) not in OWN_FOLDER]
    return shlex.join(["fulgurite", "train", *kept])
