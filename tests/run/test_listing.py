"""`fulgurite runs`: states, losses, the knobs that differ, and folders that are not as they should be."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from fulgurite.cli.runs import runs_main
from fulgurite.errors import FulguriteError
from fulgurite.language import use_language
from fulgurite.language.message import message
from fulgurite.run.listing import find_differences, format_runs, list_runs, summarize_run
from fulgurite.run.status import correct_status, lock_run, write_status


def make(
    folder: Path, *, state: str | None = "finished", losses: tuple[float, ...] = (), val: tuple[float, ...] = (),
    knobs: dict[str, Any] | None = None, choices: dict[str, str] | None = None, started: float = 100.0, **status: Any,
) -> Path:
    """A run's folder with what was given."""
    folder.mkdir(parents=True)
    if state is not None:
        facts = {"state": state, "pid": os.getpid(), "host": socket.gethostname(), "started": started}
        facts["ended"] = started + 75
        (folder / "status.json").write_text(json.dumps(facts | status))
    rows = [{"step": i + 1, "train/loss": x} for i, x in enumerate(losses)]
    rows += [{"step": len(losses), "val/loss": x} for x in val]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    origins = {k: {"value": v, "origin": "command line", "reason": ""} for k, v in (knobs or {}).items()}
    (folder / "provenance.json").write_text(json.dumps({"overrides": [], "choices": choices or {}, "knobs": origins}))
    return folder


def test_a_run_in_numbers(tmp_path: Path) -> None:
    losses = tuple(float(x) for x in range(40, 0, -1))
    knobs = {"name": "mine", "optim.lr": 1e-4}
    folder = make(tmp_path / "a", losses=losses, val=(3.0, 2.0, 2.5), total_steps=40, knobs=knobs)
    run = summarize_run(folder)
    # The last tenth of 40 losses: 4, 3, 2, 1.
    assert (run.loss, run.val_loss, run.best_val_loss) == (2.5, 2.5, 2.0)
    assert (run.name, run.state, run.steps, run.total_steps, run.seconds) == ("mine", "finished", 40, 40, 75)
    assert run.troubles == []


def test_the_newest_evaluation_is_shown_by_its_first_number(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    assert "evaluated" not in format_runs([summarize_run(first)])
    rows = [{"numbers": {"loss": 9.0}}, {"numbers": {"chrf": 41.5, "cut": 0.0}}]
    (first / "eval.json").write_text(json.dumps({"evaluations": rows}))
    runs = [summarize_run(folder) for folder in (first, second)]
    assert [run.to_json()["evaluated"] for run in runs] == [{"chrf": 41.5}, {}]
    head, *lines = format_runs(runs).splitlines()
    assert "evaluated" in head
    assert "chrf 41.5000" in lines[0]


@pytest.mark.parametrize("content", ["{", "[]", '{"evaluations": 3}', '{"evaluations": [{"numbers": {"loss": "x"}}]}'])
def test_a_damaged_evaluation_spoils_no_listing(content: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    (folder / "eval.json").write_text(content)
    run = summarize_run(folder)
    assert (run.state, run.evaluated) == ("finished", {})


def test_runs_are_found_at_every_depth_oldest_first(tmp_path: Path) -> None:
    make(tmp_path / "2026-01-02" / "10-00_b", started=200)
    make(tmp_path / "2026-01-01" / "sweep" / "0", started=50)
    make(tmp_path / "c", started=300)
    (tmp_path / "notes").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [os.path.relpath(run.folder, tmp_path) for run in list_runs(tmp_path)]
    assert found == ["2026-01-01/sweep/0", "2026-01-02/10-00_b", "c"]


def test_runs_of_several_folders_are_listed_once(tmp_path: Path) -> None:
    """A run made with run_dir= elsewhere is listed by its own folder too."""
    make(tmp_path / "a" / "x", started=2)
    make(tmp_path / "b", started=1)
    found = [os.path.relpath(run.folder, tmp_path) for run in list_runs(tmp_path / "a", tmp_path / "b", tmp_path)]
    assert found == ["b", "a/x"]


def test_runs_of_a_multirun_have_its_name(tmp_path: Path) -> None:
    for number in range(2):
        make(tmp_path / "lr-sweep" / str(number), knobs={"optim.lr": 10.0 ** -number})
    assert [run.name for run in list_runs(tmp_path)] == ["lr-sweep/0", "lr-sweep/1"]
    for root in (tmp_path, tmp_path / "lr-sweep"):
        rows = [line.split()[0] for line in format_runs(list_runs(root)).splitlines()]
        assert rows == ["run", "lr-sweep/0", "lr-sweep/1"]


def test_the_table_is_in_the_language_in_use(tmp_path: Path) -> None:
    bad = make(tmp_path / "bad", losses=(1.0,))
    (bad / "provenance.json").unlink()
    with use_language("zh"):
        text = format_runs(list_runs(tmp_path))
    assert "已完成" in text
    assert "缺少 provenance.json" in text
    assert list_runs(tmp_path)[0].to_json()["troubles"] == ["provenance.json is missing"]


def test_only_the_knobs_that_differ(tmp_path: Path) -> None:
    for name, rate in (("a", 1e-4), ("b", 1e-3)):
        knobs = {"optim.lr": rate, "seed": 42, "name": name, "run_dir": name}
        make(tmp_path / name, knobs=knobs, choices={"method": "lora"})
    make(tmp_path / "c", knobs={"optim.lr": 1e-4, "seed": 42, "method.rank": 8}, choices={"method": "lora"})
    make(tmp_path / "d", knobs={})
    runs = list_runs(tmp_path)
    assert find_differences(runs) == {"optim.lr": [1e-4, 1e-3, 1e-4, None], "method.rank": [None, None, 8, None]}
    text = format_runs(runs)
    assert "optim.lr" in text
    assert "method.rank" in text
    assert "seed" not in text


def test_what_follows_from_another_knob_is_not_shown(tmp_path: Path) -> None:
    for name, rows, rank, origin in (("a", 64, 8, "default"), ("b", 128, 16, "command line")):
        folder = make(tmp_path / name)
        knobs = {
            "data.max_length": {"value": rows, "origin": "derived"}, "method.rank": {"value": rank, "origin": origin},
            "logger.wandb.project": {"value": name, "origin": "command line"},
        }
        (folder / "provenance.json").write_text(json.dumps({"choices": {}, "knobs": knobs}))
    runs = list_runs(tmp_path)
    assert find_differences(runs) == {"method.rank": [8, 16]}
    assert [run.knobs["data.max_length"] for run in runs] == [64, 128]


def test_choices_are_compared_too(tmp_path: Path) -> None:
    for name, method in (("a", "lora"), ("b", "full")):
        make(tmp_path / name, knobs={"seed": 1}, choices={"method": method, "schema/method": method})
    assert find_differences(list_runs(tmp_path)) == {"method": ["lora", "full"]}


def test_a_running_one_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    """Whether its lock is held decides, not whether some process has its id."""
    make(tmp_path / "dead", state="running", losses=(1.0,))
    make(tmp_path / "live", state="running")
    with lock_run(tmp_path / "live"):
        assert {run.name: run.state for run in list_runs(tmp_path)} == {"dead": "died", "live": "running"}


@pytest.mark.parametrize(("name", "content", "trouble"), [
    ("status.json", b"", "status.json cannot be read (not JSON (Expecting value: line 1 column 1 (char 0)))"),
    ("status.json", b"[1]", "status.json does not contain a mapping"),
    ("status.json", b"\xff", "status.json cannot be read (not JSON (not UTF-8 text))"),
    ("metrics.jsonl", b'{"step": 1, "train/loss": 2.0}\n{"step', "metrics.jsonl: unreadable lines: 1"),
    ("provenance.json", None, "provenance.json is missing"),
    ("metrics.jsonl", None, "metrics.jsonl is missing"),
])
def test_a_damaged_folder_is_listed_with_its_damage(
    tmp_path: Path, name: str, content: bytes | None, trouble: str
) -> None:
    make(tmp_path / "good", losses=(1.0,))
    bad = make(tmp_path / "bad", losses=(1.0,))
    if content is None:
        (bad / name).unlink()
    else:
        (bad / name).write_bytes(content)
    runs = {run.name: run for run in list_runs(tmp_path)}
    assert list(map(str, runs["bad"].troubles)) == [trouble]
    assert runs["good"].troubles == []
    assert f"bad: {trouble}" in format_runs(list_runs(tmp_path))


@pytest.mark.parametrize("odd", [
    {"choices": [], "knobs": {"a": 1, "b": {"value": 2}}}, {"knobs": "text"}, {"a": {"value": 1}},
    {"choices": None, "knobs": None},
])
def test_a_strange_provenance_is_no_error(tmp_path: Path, odd: dict[str, Any]) -> None:
    folder = make(tmp_path / "a")
    (folder / "provenance.json").write_text(json.dumps(odd))
    assert set(summarize_run(folder).knobs) <= {"b"}


@pytest.mark.parametrize("odd", [
    {"state": ["x"]}, {"ended": "now", "pid": None}, {"state": "running", "pid": -1}, {"total_steps": "x"},
])
def test_a_strange_status_is_no_error(tmp_path: Path, odd: dict[str, Any]) -> None:
    make(tmp_path / "a", **odd)
    assert len(format_runs(list_runs(tmp_path)).splitlines()) == 2


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    make(tmp_path / "a\x1b[2J", losses=(1.0,), knobs={"data.path": ["[red]x[/red]"]})
    make(tmp_path / "b", losses=(1.0,), knobs={"data.path": ["y"]}, state="failed", why="boom\x1b[2J")
    text = format_runs(list_runs(tmp_path), width=200)
    assert "\x1b" not in text
    assert '["[red]x[/red]"]' in text


def test_json_is_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a", losses=(1.0, 0.5), val=(0.7,), knobs={"optim.lr": 1e-4})
    assert runs_main(["--json", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    told = [(run["state"], run["steps"], run["val_loss"], run["knobs"]) for run in found]
    assert told == [("finished", 2, 0.7, {"optim.lr": 1e-4})]


def test_the_table_as_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rate, loss in (("a", 1e-4, 1.0), ("b", 1e-3, 2.0)):
        make(tmp_path / name, losses=(loss,), knobs={"optim.lr": rate}, total_steps=4, started=1e9)
    assert runs_main([str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["run", "state", "steps", "loss", "val", "best", "time", "optim.lr"],
        ["a", "finished", "1/4", "1.0000", "-", "-", "1:15", "0.0001"],
        ["b", "finished", "1/4", "2.0000", "-", "-", "1:15", "0.001"],
    ]


def test_words_that_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs_main([]) == 0
    assert "No runs here yet; `fulgurite train`" in capsys.readouterr().out
    for words, part in (["--jsn"], "--json"), (["missing"], "missing is not a folder"), (["a=b"], "no parameter a"):
        with pytest.raises(FulguriteError, match=part):
            runs_main(words)


TEXT = "\x1b[31m\x07\u202e\r\nX"
HOSTILE: dict[str, dict[str, str]] = {
    "numbers": {
        "status.json": '{"state": "finished", "started": 1e308, "ended": -1e308, "total_steps": 1' + "0" * 400 + "}",
        "metrics.jsonl": "\n".join([
            '{"step": 1, "train/loss": 1' + "0" * 400 + "}", '{"step": 1' + "0" * 30 + "}",
            '{"step": 2, "train/loss": true, "val/loss": 1e999}',
        ]),
        "provenance.json": '{"choices": {}, "knobs": {"optim.lr": {"value": NaN, "origin": "command line"}}}',
    },
    "no numbers": {
        "status.json": '{"state": ["a"], "why": {"a": 1}, "started": NaN, "ended": [], "total_steps": true}',
        "provenance.json": "[1]",
    },
    "process": {"status.json": '{"state": "running", "started": -1e20, "pid": 1' + "0" * 30 + "}",
        "metrics.jsonl": "[" * 100_000},
    "deep": {"status.json": "[" * 100_000, "provenance.json": '{"choices": [1], "knobs": [2]}', "metrics.jsonl": "\0"},
    "text": {
        "status.json": json.dumps({"state": "failed", "why": TEXT * 500}),
        "provenance.json": json.dumps({
            "choices": {"optim": TEXT * 999}, "knobs": {"name": {"value": TEXT, "origin": "x"}, TEXT: {"value": TEXT}},
        }),
    },
}


@pytest.mark.parametrize("case", HOSTILE)
def test_no_content_of_a_run_folder_ends_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    for name, text in HOSTILE[case].items():
        (tmp_path / name).write_text(text)
    assert runs_main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    assert max(map(len, said.splitlines())) < 2100
    assert runs_main(["--json", str(tmp_path)]) == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["folder"] == str(tmp_path)


def test_a_pipe_or_a_device_in_a_run_folder_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "status.json")
    os.mkfifo(tmp_path / "metrics.jsonl")
    (tmp_path / "provenance.json").symlink_to("/dev/zero")
    assert list(map(str, summarize_run(tmp_path).troubles)) == [
        "status.json cannot be read (not a regular file)", "provenance.json cannot be read (not a regular file)",
        "metrics.jsonl cannot be read",
    ]


def test_reason_is_printed_in_the_language_in_use_and_written_in_english(tmp_path: Path) -> None:
    why = message("The launcher was killed, and the step did not end within {seconds:g} s.", seconds=9.0)
    run = tmp_path / "run"
    run.mkdir()
    write_status(run, {"state": "running", "host": socket.gethostname(), "pid": 0})
    correct_status(run, "stopped", why)
    summary = summarize_run(run)
    assert summary.to_json()["why"] == why.english
    assert "because" not in summary.to_json()
    assert why.english in format_runs([summary])
    with use_language("zh"):
        assert str(why) != why.english
        assert str(why) in format_runs([summary])
