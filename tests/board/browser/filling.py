"""What lies in the folders of the boards: data, configurations, and runs as training leaves them."""

from __future__ import annotations

import json
import sqlite3

from tests.board.browser.board_process import BoardProcess
from tests.board.browser.run_folders import HOSTILE, make_finding, make_samples, write_metrics, write_run

STATES = ("finished", "stopped", "failed", "diverged", "died")
LONG = 100_000
MARKUP = "<img src=x onerror=window.__hit=1><script>window.__hit=2</script>"


def fill_data(board: BoardProcess) -> None:
    """Writes good, hostile and bad data, a configuration in a second folder, and two runs."""
    board.runs.mkdir(parents=True, exist_ok=True)
    files = {
        "my.jsonl": [{"instruction": f"What is {n} + 1?", "input": "", "output": f"It is {n + 1}."} for n in range(60)],
        "mine.jsonl": [
            {"instruction": f"Say {n} {MARKUP}", "output": f"The answer is {n} {MARKUP}"} for n in range(30)
        ],
        "bad.jsonl": [{"instruction": "a"}, {"instruction": "b"}],
    }
    for name, rows in files.items():
        (board.runs / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    more = board.folder / "more"
    more.mkdir()
    (more / "own.yaml").write_text("defaults:\n- override /model: tiny\noptim:\n  lr: 3e-4\n", encoding="utf-8")
    write_run(board.runs / "theirs", name="theirs", knobs={"optim.lr": 3e-4, "method.rank": 16})
    write_run(
        board.runs / "full", steps=80, name="full", findings=[make_finding(40, "Many steps were clipped.")],
        samples=make_samples("What is 1 + 1?", {0: "3", 40: "2", 80: "2"}),
    )


def fill_shelf(board: BoardProcess) -> None:
    """Writes a run for each state, one with findings and samples, a long and a hostile one, and a search."""
    for state in STATES:
        written = "running" if state == "died" else state
        why = "DataError: the file is empty" if state == "failed" else ""
        write_run(board.runs / state, state=written, why=why)
    write_run(
        board.runs / "full", steps=200, name="full",
        findings=[make_finding(50, "Many steps were clipped."), make_finding(52, f"And so on. {HOSTILE}", "error")],
        samples=[
            *make_samples("What is 1 + 1?", {0: "\n" * 40, 100: "3", 200: "2"}),
            *make_samples(HOSTILE, {0: "no", 100: HOSTILE, 200: HOSTILE}),
        ],
    )
    write_run(board.runs / "long", steps=10, name="long", metrics=False)
    write_metrics(board.runs / "long" / "metrics.jsonl", LONG)
    write_run(board.runs / "hostile", name=HOSTILE, why=HOSTILE, state="failed", knobs={"method.rank": 16})
    write_run(board.runs / "one", knobs={"optim.lr": 1e-4, "method.rank": 8}, started=1_796_000_000.0)
    write_run(board.runs / "two", knobs={"optim.lr": 2e-4, "method.rank": 8}, started=1_796_000_100.0)
    write_search(board)


def write_search(board: BoardProcess) -> None:
    """Writes the study of a search with optuna itself."""
    import optuna

    folder = board.runs / "search"
    folder.mkdir()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="search", direction="minimize")
    for n, (lr, value) in enumerate([(1e-4, 1.6), (3e-4, 1.4), (1e-5, 2.1), (1e-3, 1.5), (5e-4, 1.45)]):
        distributions = {
            "optim.lr": optuna.distributions.FloatDistribution(1e-6, 1e-2, log=True),
            "method.rank": optuna.distributions.CategoricalDistribution([8, 16]),
        }
        trial = optuna.trial.create_trial(
            params={"optim.lr": lr, "method.rank": 8 if n % 2 else 16}, distributions=distributions, value=value
        )
        study.add_trial(trial)
        write_run(folder / str(n), knobs={
            "optim.lr": lr, "sweep.goal": "minimize", "sweep.metric": "val/loss",
        }, started=1_795_000_000.0 + n)
    sqlite3.connect(folder / "study.db").close()
