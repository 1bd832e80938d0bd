"""Commands that the board starts: each word one argument, their end known, also to the next board."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.board.run_folders import wait_until

from fulgurite.board.http_error import HttpError
from fulgurite.board.launches import DEADLINE, MOST_RECORDS, Launches, LaunchRecord, choose_signal
from fulgurite.errors import RequestError
from fulgurite.language.current import use_language

STUB = """
import json, os, signal, sys, time
print(json.dumps({"words": sys.argv[1:], "lang": os.environ.get("FULGURITE_LANG"), "cwd": os.getcwd(),
    "group": os.getpgid(0) == os.getppid(), "session": os.getsid(0) == os.getppid(), "in": sys.stdin.read(),
    "password": os.environ.get("FULGURITE_BOARD_PASSWORD")}), flush=True)
if "refused" in sys.argv:
    print("error: optim.lr=x is no number.", file=sys.stderr)
    sys.exit(2)
if "waits" in sys.argv:
    signal.signal(signal.SIGINT, lambda *_: (print("saved", flush=True), sys.exit(130)))
    print("ready", flush=True)
    time.sleep(60)
if "stubborn" in sys.argv:
    signal.signal(signal.SIGINT, lambda *_: print("saving", flush=True))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("ready", flush=True)
    while True:
        time.sleep(60)
"""
SHELL = [
    "$(touch marker)", "`touch marker`", "; touch marker", "| touch marker", "&& touch marker", "a\nb", "a b", "'", '"',
    "*", "~", "$HOME", "\\", "-c", "--help", "", "a=b,c", "+x=1", "~x", "hydra.run.dir=/tmp/marker", "${oc.env:HOME}",
    "> marker", "\u202emarker", "中文 文件", "\x1b[31m",
]
"""Words that a shell, or Hydra, would read in another way."""


@pytest.fixture
def launches(tmp_path: Path) -> Launches:
    return make(tmp_path)


def make(folder: Path) -> Launches:
    (folder / "stub.py").write_text(STUB)
    return Launches(folder / "launches", folder, [sys.executable, "-I", str(folder / "stub.py")])


def read(launches: Launches, record: LaunchRecord) -> dict[str, object]:
    wait_until(lambda: not launches.is_alive(record))
    first: dict[str, object] = json.loads((launches._place(record.id, "log")).read_text().splitlines()[0])
    return first


def wait_for(launches: Launches, record: LaunchRecord, word: str) -> None:
    wait_until(lambda: word in launches.read_output(record).splitlines())


def test_each_word_is_one_argument_and_no_shell_reads_it(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", SHELL, tmp_path / "run")
    assert read(launches, record)["words"] == SHELL
    assert not (tmp_path / "marker").exists()


def test_command_has_a_group_of_its_own_and_nothing_to_read(
    launches: Launches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FULGURITE_BOARD_PASSWORD", "correct horse battery")
    with use_language("zh"):
        found = read(launches, launches.start("train", [], tmp_path / "run"))
    assert found == {
        "words": [], "lang": "zh", "cwd": str(tmp_path), "group": True, "session": True, "in": "", "password": None,
    }


def test_files_of_a_launch_are_private(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", ["x=1"], tmp_path / "run")
    read(launches, record)
    wait_until(lambda: launches.read_exit(record) is not None)
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in (tmp_path / "launches").iterdir()}
    assert modes == {".json": 0o600, ".log": 0o600, ".exit": 0o600}
    assert (tmp_path / "launches").stat().st_mode & 0o777 == 0o700


def test_a_refused_command_shows_its_sentence_also_to_the_next_board(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", ["refused", f"run_dir={tmp_path}/run"], tmp_path / "run")
    wait_until(lambda: launches.read_exit(record) is not None and not launches.is_alive(record))
    for board in (launches, make(tmp_path)):
        shown = board.describe(board.find(record.id), False)
        assert (shown["state"], shown["exit"], shown["error"]) == ("ended", 2, "optim.lr=x is no number.")
        assert shown["command"] == "fulgurite refused"


def test_the_folder_of_a_run_that_never_began_is_removed(launches: Launches, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "2026-01-01" / "x"
    folder.mkdir(parents=True)
    launches.start("train", ["refused"], folder)
    wait_until(lambda: not folder.parent.exists())


def test_stop_is_what_ctrl_c_is_and_later_sigterm(
    launches: Launches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = launches.start("train", ["stubborn"], tmp_path / "run")
    wait_for(launches, record, "ready")
    launches.stop(record)
    wait_for(launches, record, "saving")
    launches.stop(record)  # too early: it is saving
    assert len(record.stops) == 1
    assert launches.describe(record, True)["stopping"]
    monkeypatch.setattr("fulgurite.board.launches.DEADLINE", 0.0)
    launches.stop(record)
    wait_until(lambda: not launches.is_alive(record))
    assert launches.read_exit(record) == 143
    with pytest.raises(RequestError, match="ended already"):
        launches.stop(record)


def test_end_of_a_command_is_waited_for_but_not_for_ever(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", ["waits"], tmp_path / "run")
    wait_for(launches, record, "ready")
    assert not launches.wait_for_end(record, 0.0)
    launches.stop(record)
    assert launches.wait_for_end(record, 20.0)
    assert launches.wait_for_end(record, 0.0)


def test_the_next_board_finds_a_command_and_stops_it(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", ["waits"], tmp_path / "run")
    wait_for(launches, record, "ready")
    other = make(tmp_path)
    again = other.find(record.id)
    assert other.is_alive(again)
    assert other.describe(again, True)["state"] == "running"
    assert other.find_running(tmp_path / "run") == again
    assert other.find_training() == again
    assert other.list_alive() == [again]
    other.stop(again)
    wait_until(lambda: not other.is_alive(again))
    assert other.list_alive() == []
    assert other.read_exit(again) == 130
    assert other.describe(again, True)["output"].endswith("saved")


def test_another_process_with_the_same_id_is_not_the_command(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", ["waits"], tmp_path / "run")
    wait_for(launches, record, "ready")
    launches.stop(record)
    wait_until(lambda: not launches.is_alive(record))
    stored = tmp_path / "launches" / f"{record.id}.json"
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"pid": os.getpid()}))
    other = make(tmp_path)
    assert not other.is_alive(other.find(record.id))
    with pytest.raises(RequestError):
        other.stop(other.find(record.id))


@pytest.mark.parametrize("content", ["", "[", "{}", '{"id": "x"}', '{"id": "../x", "kind": 7}'])
def test_damaged_records_are_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "launches").mkdir()
    (tmp_path / "launches" / "x.json").write_text(content)
    assert make(tmp_path).list_records() == []


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "launches").write_text("a file")
    with pytest.raises(RequestError, match=r"^The command cannot be started: .*: .*\. Free some space"):
        make(tmp_path).start("train", [], tmp_path / "run")


def test_unknown_id_is_404(launches: Launches) -> None:
    for name in ("x", "../x", ""):
        with pytest.raises(HttpError):
            launches.find(name)


def test_output_is_the_end_of_the_log_as_text(launches: Launches, tmp_path: Path) -> None:
    record = launches.start("train", [], tmp_path / "run")
    wait_until(lambda: not launches.is_alive(record))
    log = tmp_path / "launches" / f"{record.id}.log"
    log.write_bytes(b"x" * 50_000 + b"\nstep 1\rstep 2\nred \x1b[31m\n<b>\xff\n")
    assert launches.read_output(record).splitlines()[-3:] == ["step 2", "red \\x1b[31m", "<b>\N{REPLACEMENT CHARACTER}"]


def test_signals_by_time() -> None:
    assert choose_signal([], 50.0) is signal.SIGINT
    assert choose_signal([49.0], 50.0) is None
    assert choose_signal([50.0 - DEADLINE], 50.0) is signal.SIGTERM


def test_oldest_records_are_removed(tmp_path: Path) -> None:
    launches = make(tmp_path)
    for n in range(MOST_RECORDS + 2):
        launches._records[str(n)] = LaunchRecord(str(n), "train", [], "x", float(n))
    launches._remove_oldest()
    assert len(launches.list_records()) == MOST_RECORDS
    assert launches.list_records()[-1].id == "2"
