"""Stopping, resuming and exporting, beside what the tests of the routes show."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.board.run_folders import make_run
from tests.board.server.client import make_board

from fulgurite.board.roots import make_run_id
from fulgurite.board.server.run_actions import choose_export, stop_run
from fulgurite.board.server.run_services import RunServices
from fulgurite.errors import RequestError

TRAINS = """
import sys, time
from pathlib import Path
from fulgurite.run.status import track_status
try:
    with track_status(Path(sys.argv[1]), total_steps=9):
        print("in", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.stdin.readline()  # it saves until the test lets it go on
            raise
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_run_that_was_started_on_a_command_line_is_stopped(tmp_path: Path) -> None:
    services = RunServices(make_board(tmp_path))
    folder = tmp_path / "runs" / "a"
    command = [sys.executable, "-c", TRAINS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        assert stop_run(services, make_run_id(folder), {})["run"]["live"]
        stop_run(services, make_run_id(folder), {})  # once more at once changes nothing
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 130
    assert services.catalogue.find_run(make_run_id(folder)).summary.state == "stopped"
    with pytest.raises(RequestError, match="ended already"):
        stop_run(services, make_run_id(folder), {})


def test_a_run_of_another_machine_is_not_stopped_here(tmp_path: Path) -> None:
    services = RunServices(make_board(tmp_path))
    folder = make_run(tmp_path / "a", state="running", host="elsewhere", started=time.time())
    with pytest.raises(RequestError, match="elsewhere"):
        stop_run(services, make_run_id(folder), {})


def test_exports_never_share_a_folder(tmp_path: Path) -> None:
    assert [choose_export(tmp_path, "merged").name for _ in range(3)] == [
        "export-merged", "export-merged-2", "export-merged-3",
    ]
    with pytest.raises(RequestError, match="cannot be written"):
        choose_export(tmp_path / "nowhere", "merged")
