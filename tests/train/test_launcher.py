"""Several processes: how each of them may end, and the line and the status of it. The ranks here are toys."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fulgurite.run import status
from fulgurite.train import launcher as module
from fulgurite.train.launcher import Launch, launch

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


def ends(
    code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, after: Any = None, processes: int = 2
) -> tuple[int, str]:
    """Status and line of a run whose ranks execute `code`; `after(run)` is called once they have been started."""
    monkeypatch.setenv("PLACE", str(folder))
    monkeypatch.setattr(module, "LOOK", 0.2)
    run = Launch(folder)
    run.start([sys.executable, "-c", HEAD + code], processes)
    if after is not None:
        after(run)
    run.wait()
    assert not run.list_alive()
    status, line = run.judge_end()
    return status, str(line)


def appear(folder: Path, *names: str) -> None:
    """Wait until the ranks have made these files."""
    until = time.monotonic() + 30
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"if number == {number}: os.kill(os.getpid(), signal.SIGKILL)\nleave(3, 'lost the other', lost=True)"
    (tmp_path / "checkpoints" / "step-4").mkdir(parents=True)
    found, line = ends(code, tmp_path, monkeypatch)
    assert found == 3
    assert line == (
        f"Rank {number} of 2 was killed by SIGKILL, as when memory runs out. The last checkpoint is that of step 4; "
        f"go on with resume.run={tmp_path}."
    )


@pytest.mark.parametrize(
    ("left", "said"), [("os._exit(7)", "left with exit status 7"), ("os._exit(0)", "left with exit status 0")]
)
def test_a_rank_that_leaves_without_a_word_is_named(
    left: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, line = ends(f"if number == 1: {left}\nleave(3, 'lost the other', lost=True)", tmp_path, monkeypatch)
    assert (found, line) == (
        3,
        f"Rank 1 of 2 {said} and gave no reason. No checkpoint was made yet, so the run begins again.",
    )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("leave(0, '') if number else sys.exit(0)", (0, "")),
        ("leave(2, 'data.path=x: there is no such file.')", (2, "data.path=x: there is no such file.")),
        ("leave(2, 'bad data') if number else leave(3, 'lost the other', lost=True)", (2, "bad data")),
        ("leave(2, 'bad data') if number else leave(3, 'Step 4: not finite.')", (3, "Step 4: not finite.")),
        ("leave(143, 'Stopped by SIGTERM after step 3.')", (143, "Stopped by SIGTERM after step 3.")),
        (
            "leave(3, 'Step 4: not finite.') if number else leave(143, 'Stopped by SIGTERM.')",
            (3, "Step 4: not finite."),
        ),
        ("leave(3, 'the connection is gone', lost=True)", (3, "the connection is gone")),
    ],
)
def test_one_line_and_one_status(
    code: str, expected: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ends(code, tmp_path, monkeypatch) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGUSR1, 143)],
)
def test_a_signal_is_handed_on_and_a_stopped_rank_is_killed(
    number: signal.Signals, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 stands still, and rank 0 waits for it, as in a step."""
    monkeypatch.setattr(module, "GRACE", 1.0)
    code = (
        "signal.signal(int(os.environ['NUMBER']), lambda *_: there('heard'))\nthere('up')\nwhile True: time.sleep(0.1)"
    )
    monkeypatch.setenv("NUMBER", str(int(number)))

    def after(run: Launch) -> None:
        appear(tmp_path, "up0", "up1")
        run.ranks[1].child.send_signal(signal.SIGSTOP)
        run.handle_signal(number)
        appear(tmp_path, "heard0")

    started = time.monotonic()
    found, line = ends(code, tmp_path, monkeypatch, after)
    assert time.monotonic() - started < 20
    assert found == expected
    assert line.startswith(
        f"Stopped by {number.name}: rank 1 of 2 did not leave (it was stopped, as by SIGSTOP) and was killed. No check"
    )
    assert not (tmp_path / "heard1").exists()


def test_a_step_that_is_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.5)
    code = """
signal.signal(signal.SIGTERM, lambda *_: there('heard'))
there('up')
wait_for('heard0')
until = time.monotonic() + 2.5
while number == 0 and time.monotonic() < until: pass
if number: wait_for('done0')
there('done')
leave(143, 'Stopped by SIGTERM after step 3.')
"""

    def after(run: Launch) -> None:
        appear(tmp_path, "up0", "up1")
        run.handle_signal(signal.SIGTERM)

    assert ends(code, tmp_path, monkeypatch, after) == (143, "Stopped by SIGTERM after step 3.")
    assert "The step has not ended after" in capsys.readouterr().err


@pytest.mark.parametrize("number", module.HANDED_ON)
@pytest.mark.parametrize("does", ["computes", "waits"])
def test_ranks_that_ignore_a_signal_are_killed_at_its_deadline(
    number: signal.Signals, does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits after GRACE; one that computes may be in a long step, and has until LONGEST."""
    monkeypatch.setattr(module, "GRACE", 0.3)
    monkeypatch.setattr(module, "LONGEST", 1.5 if does == "computes" else 600.0)
    monkeypatch.setenv("NUMBER", str(int(number)))
    code = "signal.signal(int(os.environ['NUMBER']), signal.SIG_IGN)\nthere('up')\n"
    code += "while True: pass" if does == "computes" else "while True: time.sleep(0.1)"
    sent: list[float] = []

    def after(run: Launch) -> None:
        appear(tmp_path, "up0", "up1")
        run.handle_signal(number)
        sent.append(time.monotonic())

    found, line = ends(code, tmp_path, monkeypatch, after)
    assert found == (130 if number == signal.SIGINT else 143)
    assert line.startswith(f"Stopped by {number.name}: rank 0 of 2 did not leave (")
    assert time.monotonic() - sent[0] < 30


@pytest.mark.parametrize("number", module.HANDED_ON)
def test_a_rank_that_computes_on_is_killed_soon_after_the_others_have_left(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.3)
    monkeypatch.setenv("NUMBER", str(int(number)))
    code = """
stop = lambda *_: leave(143, 'Stopped after step 3.')
signal.signal(int(os.environ['NUMBER']), signal.SIG_IGN if number else stop)
there('up')
while number: pass
time.sleep(60)
"""

    def after(run: Launch) -> None:
        appear(tmp_path, "up0", "up1")
        run.handle_signal(number)

    found, line = ends(code, tmp_path, monkeypatch, after)
    assert (found, line) == (130 if number == signal.SIGINT else 143, "Stopped after step 3.")


def test_a_second_signal_has_a_deadline_whatever_the_ranks_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 0.5)
    code = "signal.signal(signal.SIGTERM, lambda *_: None)\nthere('up')\nwhile True: pass"

    def after(run: Launch) -> None:
        appear(tmp_path, "up0", "up1")
        run.handle_signal(signal.SIGTERM)
        run.handle_signal(signal.SIGTERM)

    found, line = ends(code, tmp_path, monkeypatch, after)
    assert (found, line.split(" and was")[0].replace("it did nothing", "it was still computing")) == (
        143, "Stopped by SIGTERM: rank 0 of 2 did not leave (it was still computing)")


def test_a_rank_that_is_stopped_while_the_others_wait_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "STOPPED", 0.6)
    code = "there('up')\nif number: os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: time.sleep(0.1)"
    found, line = ends(code, tmp_path, monkeypatch)
    assert found == 3
    assert line.startswith("Rank 1 of 2 did not answer the others (it was stopped, as by SIGSTOP) and was killed.")
    assert "warning: rank 1 (process" in capsys.readouterr().err


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup; every other handler is put back as it was."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = Launch(tmp_path)
        with module.handle_signals(run.handle_signal):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
        assert run.signals == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_before_the_ranks_are_there_reaches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", str(tmp_path))
    run = Launch(tmp_path)
    run.handle_signal(signal.SIGTERM)
    run.start([sys.executable, "-c", "import time; time.sleep(60)"], 2)
    run.wait()
    status, line = run.judge_end()
    assert (status, str(line)) == (143, "Stopped by SIGTERM before training began.")


def test_the_launcher_prints_one_line_and_mends_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real command: its words are wrong, which both ranks say."""
    gone = {"state": "running", "host": socket.gethostname(), "pid": 2**22 + 1}
    status.write_status(tmp_path, gone)
    assert launch(["train", "model=tiny", "optim.lrr=1"], 2, tmp_path) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ")
    assert "Did you mean optim.lr" in line
    assert "\n" not in line
    found = status._read_text(tmp_path)
    assert found is not None
    assert {k: json.loads(found)[k] for k in ("state", "why")} == {
        "state": "failed",
        "why": line.removeprefix("error: "),
    }
