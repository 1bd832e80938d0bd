"""What a rank does for its launcher: it ends when the launcher does, and reports its error line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fulgurite.errors import Interrupted
from fulgurite.train import rank_process
from fulgurite.train.rank_process import RankReport

HEAD = """
import os, signal, sys, time
from fulgurite.train import rank_process as rank
from fulgurite.train.rank_process import RankReport, follow_launcher, report
follow_launcher()
number = int(os.environ["RANK"])
def leave(status, line, lost=False):
    report(RankReport(status, line, lost)); sys.exit(status)
def there(name):
    open(os.path.join(os.environ["PLACE"], f"{name}{number}"), "w").close()
def wait_for(name):
    while not os.path.exists(os.path.join(os.environ["PLACE"], name)): time.sleep(0.02)
"""


def appear(folder: Path, *names: str) -> None:
    """Wait until the ranks have made these files."""
    until = time.monotonic() + 30
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < until
        time.sleep(0.02)


LAUNCHER = """
import sys
from pathlib import Path
from fulgurite.train.launcher import Launch
run = Launch(Path(sys.argv[1]))
run.start([sys.executable, "-c", sys.argv[2]], 2)
print(*[rank.child.pid for rank in run.ranks], flush=True)
run.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the ranks watch their parent's number")
@pytest.mark.parametrize("deaf", [False, True])
def test_ranks_die_with_their_launcher(deaf: bool, tmp_path: Path) -> None:
    """They get SIGTERM, which saves; one that does not listen is killed, and writes how its run ended."""
    heard = "None" if deaf else "sys.exit(0)"
    code = f"{HEAD}\nrank.TO_LEAVE = 0.3\nsignal.signal(signal.SIGTERM, lambda *_: {heard})\nthere('up')\n"
    code += "import socket\nfrom fulgurite.run import status\nfrom pathlib import Path\n"
    code += "mine = {'state': 'running', 'host': socket.gethostname(), 'pid': os.getpid()}\n"
    code += "if number == 0: status.write_status(Path(os.environ['PLACE']), mine)\nthere('told')\n"
    code += "while True: time.sleep(0.05)"
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path), code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PLACE": str(tmp_path)}
    ) as launcher:
        assert launcher.stdout is not None
        ranks = [psutil.Process(int(word)) for word in launcher.stdout.readline().split()]
        appear(tmp_path, "told0", "told1")
        launcher.kill()
    gone, alive = psutil.wait_procs(ranks, timeout=10)
    assert (len(gone), alive) == (2, [])
    if deaf:
        found = json.loads((tmp_path / "status.json").read_text())
        assert (found["state"], found["why"]) == (
            "stopped",
            "The launcher was killed, and the step did not end within 0.3 s.",
        )


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rank_process.LAUNCHER, raising=False)
    monkeypatch.setattr(rank_process._Link, "pipe", None)
    monkeypatch.setattr(rank_process, "_ask_for_signal", lambda: True)  # this process is to outlive its parent's end


@pytest.mark.usefixtures("_alone")
def test_without_a_launcher_nothing_is_followed_and_the_line_is_printed_here() -> None:
    rank_process.follow_launcher()
    assert rank_process._Link.pipe is None
    assert not rank_process.report(RankReport(3, "out of memory"))


@pytest.mark.usefixtures("_alone")
def test_the_warnings_of_torchs_own_code_are_hidden_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "INFO")
    rank_process.quiet_torch()
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == "INFO"
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")
    rank_process.quiet_torch()
    assert os.environ["TORCH_CPP_LOG_LEVEL"] == "ERROR"
    monkeypatch.delenv("TORCH_CPP_LOG_LEVEL")


def test_a_report_is_one_line_of_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    try:
        monkeypatch.setattr(rank_process._Link, "pipe", write)
        assert rank_process.report(RankReport(3, "Step 4: not finite.\nsecond"))
        assert rank_process.report(RankReport(2, "lost", lost=True))
        os.close(write)
        with os.fdopen(read) as lines:
            found = [RankReport(**json.loads(line)) for line in lines]
    finally:
        monkeypatch.undo()
    assert found == [RankReport(3, "Step 4: not finite.\nsecond"), RankReport(2, "lost", lost=True)]


@pytest.mark.usefixtures("_alone")
def test_a_pipe_whose_reader_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(rank_process._Link, "pipe", write)
    try:
        assert not rank_process.report(RankReport(3, "out of memory"))
    finally:
        os.close(write)


@pytest.mark.usefixtures("_alone")
def test_a_rank_whose_launcher_is_gone_already_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    try:
        made = rank_process.build_environment(write, Path("runs/a"))
        assert json.loads(made[rank_process.LAUNCHER]) == [os.getpid(), write, "runs/a"]
        monkeypatch.setenv(rank_process.LAUNCHER, made[rank_process.LAUNCHER])  # its launcher is not its parent
        with pytest.raises(Interrupted, match="The launcher of this run is gone"):
            rank_process.follow_launcher()
        assert rank_process.LAUNCHER not in os.environ  # what this process starts is no rank
        assert not os.get_inheritable(write)
    finally:
        os.close(read)
        os.close(write)
