"""The launchers and their parameters: what is refused, and what a run that starts elsewhere assumes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.requests import TINY, read_refusal

import fulgurite as fg
from fulgurite.config.compose import compose
from fulgurite.config.guard import refuse_stored_code
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible

SLURM = ["launcher=slurm", "model=tiny"]


def test_this_machine_is_the_default() -> None:
    run = compose([]).run
    assert (run.launcher.name, run.launcher.is_remote, run.launcher.requeue) == ("local", False, True)
    assert {name for name, cls in list_options("launcher").items() if cls.is_remote} == {"slurm", "ray"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("time", ["90", "90:00", "04:00:00", "1-12", "1-12:30", "1-12:30:00", "UNLIMITED"])
def test_time_limits_of_slurm_are_accepted(time: str) -> None:
    run = compose([*SLURM, f"launcher.time={time}"]).run
    assert run.launcher.time == time
    refuse_impossible(run)


@pytest.mark.parametrize(("word", "says"), [
    ("launcher.time=4h", "launcher.time=4h is not a time limit of Slurm"),
    ("launcher.options=[mem=64G]", "launcher.options has mem=64G, which is no option of sbatch"),
    ("launcher.partition='a\nb'", r"launcher has 'a\\nb', which is not one line"),
    ("launcher.setup=['a\tb']", "which is not one line of text"),
])
def test_what_is_no_line_of_a_script_is_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        refuse_impossible(compose([*SLURM, word]).run)


def test_devices_of_other_machines_are_not_counted_here() -> None:
    composed = compose([*SLURM, "strategy=ddp"])
    assert composed.run.world_size == 1
    assert "not known here" in str(composed.provenance["trainer.devices"].because)
    assert compose([*SLURM, "strategy=ddp", "trainer.devices=8", "trainer.num_nodes=2"]).run.world_size == 16


def test_a_remote_launcher_is_for_the_command_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="launcher=slurm starts one run from the command line"):
        fg.experiment(*TINY, "launcher=slurm").fit()
    assert "leave it out of -m" in read_refusal(["train", "-m", *TINY, "launcher=slurm", "seed=1"], capsys)


def test_shell_of_a_stored_run_is_code() -> None:
    stored = ["launcher=slurm", "launcher.setup=['module load cuda']"]
    with pytest.raises(ConfigError, match="which lets code run"):
        refuse_stored_code(stored, [], "runs/a")
    assert refuse_stored_code(stored, ["launcher.setup=[]"], "runs/a") == ["launcher=slurm"]
