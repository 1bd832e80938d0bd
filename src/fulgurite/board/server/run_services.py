"""What the routes of runs share: the catalogue, the launches, the searches and the chat process of a board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fulgurite.board.findings import read_findings
from fulgurite.board.http_error import HttpError
from fulgurite.board.launches import Launches, LaunchRecord
from fulgurite.board.open_draft import open_run
from fulgurite.board.run_view import describe_run
from fulgurite.board.runs import KnownRun, RunCatalogue, describe_differences
from fulgurite.board.server.chatter import Chatter
from fulgurite.board.server.state import Board
from fulgurite.board.sweeps import SweepShelf
from fulgurite.errors import FulguriteError
from fulgurite.language.message import message

MOST_LAUNCHES = 20
"""Launches in the list of runs."""


class RunServices:
    """The services of one board, made when they are first needed."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.stops: dict[str, list[float]] = {}
        """When runs that were started elsewhere were asked to stop, by their ids."""

    @property
    def catalogue(self) -> RunCatalogue:
        """The runs under the roots."""
        return self.board.get_service("runs", lambda: RunCatalogue(self.board.roots))

    @property
    def launches(self) -> Launches:
        """The commands that this board, or an earlier one, has started."""
        return self.board.get_service(
            "launches", lambda: Launches(self.board.cache / "launches", self.board.roots.base)
        )

    @property
    def sweeps(self) -> SweepShelf:
        """The searches under the roots."""
        return self.board.get_service("sweeps", lambda: SweepShelf(self.board.roots))

    @property
    def chatter(self) -> Chatter:
        """The chat process."""
        return self.board.get_service("chatter", Chatter)

    def list_all(self) -> dict[str, Any]:
        """Returns the answer of /api/runs."""
        runs = self.catalogue.list_runs()
        own = [record for record in self.launches.list_records() if self.is_own(record)]
        return {
            "runs": [describe_run(run, self.board.roots) for run in runs],
            "differences": describe_differences(runs),
            "sweeps": [self.sweeps.describe(folder) for folder in self.catalogue.list_sweeps()],
            "launches": [self.describe_launch(record) for record in own[:MOST_LAUNCHES]],
        }

    def list_busy(self) -> list[str]:
        """Returns the commands of these roots that are running, and the searches whose importance is computed: their
        ends change the list of runs."""
        alive = [record.id for record in self.launches.list_alive() if self.is_own(record)]
        return [*alive, *self.sweeps.list_computing()]

    def is_own(self, record: LaunchRecord) -> bool:
        """Returns whether a launch belongs to the roots of this board: the cache is shared with other boards."""
        return any(Path(record.folder).is_relative_to(root) for root in self.board.roots.folders)

    def find_launch(self, launch_id: str) -> LaunchRecord:
        """Returns a launch of these roots. Raises HttpError."""
        record = self.launches.find(launch_id)
        if not self.is_own(record):
            raise HttpError(404, message("The board has started no such command."))
        return record

    def describe_launch(self, record: LaunchRecord) -> dict[str, Any]:
        """Returns the answer of /api/launches/ID."""
        folder = Path(record.folder)
        if record.kind == "sweep":
            sweep = self.catalogue.find_sweep_id(folder)
            return self.launches.describe(record, sweep is not None) | {"run": None, "sweep": sweep}
        place = folder.parent if record.kind == "export" else folder
        run = self.catalogue.find_id(place)
        began = record.kind == "export" or (run is not None and self._has_begun(place, record))
        return self.launches.describe(record, began) | {"run": run, "sweep": None}

    def _has_begun(self, folder: Path, record: LaunchRecord) -> bool:
        """Returns whether the run has reached its folder: a resumed one has a status of before."""
        try:
            return (folder / "status.json").stat().st_mtime >= record.started - 1
        except OSError:
            return False

    def read_metrics(self, run: KnownRun, points: int) -> dict[str, Any]:
        """Returns the curves of a run; the steps of its findings are among their points."""
        reader = self.catalogue.get_reader(run)
        reader.refresh()
        return reader.describe(points, [finding["step"] for finding in read_findings(run.folder)])

    def open_draft(self, run: KnownRun) -> dict[str, Any]:
        """Returns the draft with which the run can be started again, and what is not in it."""
        try:
            return open_run(run.folder, self.board.allow_code).to_json()
        except FulguriteError as error:
            return {"draft": None, "notes": [str(error)]}

    def find_output(self, run: KnownRun) -> str:
        """Returns the last lines that the newest launch in a run's folder has printed; empty if it was started
        elsewhere."""
        for record in self.launches.list_records():
            if record.folder == str(run.folder):
                return self.launches.read_output(record)
        return ""
