"""`fulgurite train`: one process or several, one run or a multirun, and what is left of a run that never began."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.requests import TINY, read_refusal
from tests.run.test_listing import make

from fulgurite.cli.main import main
from fulgurite.cli.train import format_multirun
from fulgurite.config.compose import compose


def test_wrong_data_of_several_processes_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [w for w in TINY if not w.startswith("data.")]
    words += ["data=file", "data.path=/no/such.json", "trainer.devices=2"]
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, lines
    assert "there is no such file" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_more_processes_than_cores_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[int] = []
    monkeypatch.setattr(
        "fulgurite.train.launcher.launch", lambda words, processes, *place: started.append(processes) or 0,
    )
    monkeypatch.setattr("fulgurite.strategy.config.available", lambda: 2)
    for count in (2, 3):
        assert main(["train", *TINY, f"trainer.devices={count}", f"run_dir={tmp_path}"]) == 0
    assert capsys.readouterr().err == (
        "warning: trainer.devices=3 processes share 2 CPU cores; fewer processes are faster.\n"
    )
    assert started == [2, 3]


def test_cfg_prints_the_config_with_an_option_of_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("defaults: [adamw, _self_]\nlr: 3e-4\n")
    assert main(["train", "--config-dir", str(tmp_path), "--cfg", "job", "optim=mine"]) == 0
    assert "lr: 0.0003" in capsys.readouterr().out
    assert compose(["optim=mine"], config_dir=tmp_path).run.optim.lr == 3e-4


def test_multirun_has_a_folder_for_each_value_and_reports_the_trial_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ["scheduler=polynomial", "scheduler.lr_end=5e-3", "optim.lr=1e-3,1e-2"]
    assert main(["train", "-m", *TINY, *sweep]) == 2
    [folder] = tmp_path.glob("runs/*/*_sweep")
    whole = sorted(path.parents[2].name for path in folder.glob("*/checkpoints/last/manifest.json"))
    assert whole == ["1"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Trial 1 (" in errors[0]
    assert "must be below optim.lr=0.001" in errors[0]


def test_multirun_ends_with_a_table_of_what_differs(tmp_path: Path) -> None:
    folders = [
        make(tmp_path / "sweep" / str(n), losses=(loss,), knobs={"optim.lr": rate, "name": "mine"}, total_steps=1)
        for n, (rate, loss) in enumerate(((1e-4, 3.0), (1e-3, 2.5)))
    ]
    head, *rows = format_multirun(folders).split("\n")[1:]
    assert head.split() == ["run", "state", "steps", "loss", "val", "best", "time", "optim.lr"]
    assert [(row.split()[0], row.split()[3], row.split()[-1]) for row in rows] == [
        ("sweep/0", "3.0000", "0.0001"), ("sweep/1", "2.5000", "0.001"),
    ]
    assert format_multirun(folders[:1]) == ""


def test_several_processes_are_refused_in_a_multirun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "-m does not support runs of several processes (this one has 2)" in read_refusal(
        ["train", "-m", *TINY, "trainer.devices=2", "seed=1"], capsys,
    )


def test_failed_processes_leave_no_folder_of_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def launch(words: list[str], devices: int, folder: Path, *place: int) -> int:
        folder.mkdir(parents=True, exist_ok=True)
        seen.append(folder)
        assert words[-1] == f"run_dir={folder}" or words[-1] == f"run_dir='{folder}'"
        return 3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fulgurite.train.launcher.launch", launch)
    monkeypatch.setattr("fulgurite.strategy.config.available", lambda: 2)
    assert main(["train", *TINY, "trainer.devices=2"]) == 3
    assert seen
    assert list(tmp_path.iterdir()) == []
    # a folder that was named by the person stays
    assert main(["train", *TINY, "trainer.devices=2", "run_dir=mine"]) == 3
    assert (tmp_path / "mine").is_dir()
