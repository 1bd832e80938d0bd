"""What an evaluation has found, and eval.json, which keeps every evaluation of a run."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite import __version__
from fulgurite.errors import RequestError
from fulgurite.evaluate.calibration import CalibrationBin
from fulgurite.files.atomic import write_output
from fulgurite.files.json import read_json
from fulgurite.files.lock import hold_lock
from fulgurite.language.library_errors import translate_error, translate_system_error

FILE = "eval.json"


@dataclass(slots=True)
class EvalResult:
    """The numbers of one evaluation by name, and what was evaluated on what.

    `counts` has the examples, and the label tokens, pairs or answers that the loss is a mean of. `data` names the files
    and the hash of their records, `settings` the parameters that were set.
    """

    subject: str
    checkpoint: str | None
    step: int | None
    numbers: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    bins: list[CalibrationBin] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    comparison: dict[str, str] = field(default_factory=dict)
    """The second model of a comparison, `against`, and its `table`."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for programs."""
        found = dataclasses.asdict(self)
        for name, value in (("calibration", found.pop("bins")), ("comparison", found.pop("comparison"))):
            found |= {name: value} if value else {}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return found | {"version": __version__, "time": now}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Returns the evaluations in eval.json of a run folder, the oldest first; none without the file.

    Raises RequestError if the file cannot be read, so that a new one does not replace it.
    """
    path = folder / FILE
    try:
        found = read_json(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = translate_error(error) if isinstance(error, ValueError) else translate_system_error(error)
        raise RequestError(
            "{path} cannot be read ({reason}); repair it, or move it away.", path=path, reason=reason
        ) from error
    rows = found.get("evaluations") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RequestError("{path} has no list `evaluations`; repair it, or move it away.", path=path)
    return rows


def add_result(folder: Path, result: dict[str, Any]) -> None:
    """Adds an evaluation, as `EvalResult.to_json` returns it, to eval.json. Raises RequestError."""
    with hold_lock(folder / f"{FILE}.lock"):
        rows: Sequence[dict[str, Any]] = [*read_results(folder), result]
        text = json.dumps({"evaluations": rows}, indent=1, ensure_ascii=False, allow_nan=False)
        write_output(folder / FILE, f"{text}\n")
