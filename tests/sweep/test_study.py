"""Real trials of the tiny model, through Hydra: pruned and failed ones, the run folders, the study that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import ROOT

from fulgurite.cli.main import main

TINY = [
    "+sweep=sft_lora", "sweep.knobs=[optim.lr]", "model=tiny", "data.max_samples=60", "precision=fp32",
    "trainer.max_steps=2",
    "trainer.eval_every=1", "trainer.global_batch_size=4", "data.val_fraction=0.2",
]


def test_a_search_through_hydra_and_its_second_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "-m", *TINY, "sweep.trials=2"]) == 0
    [folder] = tmp_path.glob("runs/sweeps/sft_lora-*")
    assert sorted(p.parent.name for p in folder.glob("*/config.yaml")) == ["0", "1"]
    assert main(["train", "-m", *TINY, "sweep.trials=1", "optim.lr=interval(1e-4,2e-3)", "sweep.study=own"]) == 0
    capsys.readouterr()
    assert main(["train", "-m", *TINY, "sweep.trials=3"]) == 0
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert [t["state"] for t in trials] == ["complete"] * 3
    assert trials[0]["values"] == {"optim.lr": 1e-3}
    assert set(trials[0]["evaluations"]) == {"50", "100"}
    rows = [json.loads(line) for line in (folder / "1" / "metrics.jsonl").read_text().splitlines()]
    assert trials[1]["value"] == min(row["val/loss"] for row in rows if "val/loss" in row)
    assert "2 of 3 trials" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["sweeps"]
    assert len(list(folder.glob("*/checkpoints"))) == 1


def test_the_first_trial_is_what_the_data_derive_and_no_drawn_value_is_refused_as_unwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["+sweep=sft_lora", "sweep.knobs=[trainer.global_batch_size]", "model=tiny", "data.max_samples=60",
        "precision=fp32", "sweep.study=two"]
    assert main(["train", *few[2:-1], "run_dir=alone", "trainer.max_steps=1", "stage.prompts=[]"]) == 0
    derived = json.loads(Path("alone/provenance.json").read_text())["knobs"]["trainer.global_batch_size"]
    assert derived["origin"] == "derived"
    assert main(["train", "-m", *few, "sweep.trials=3", "sweep.sampler=random", "sweep.pruner=none"]) == 0
    folder = tmp_path / "runs" / "sweeps" / "two"
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert trials[0]["values"] == {"trainer.global_batch_size": derived["value"]}
    assert [t["state"] for t in trials] == ["complete"] * 3
    troubles = [t for n in range(3) for t in json.loads((folder / str(n) / "troubles.json").read_text())]
    allowed = [t for t in troubles if t["severity"] == "error"]
    assert {(t["rule"], t["allowed"]) for t in allowed} == {("steps.too-few", True)}  # a batch of 64 makes two steps


def test_a_trial_that_the_study_ends_is_a_stopped_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "fulgurite.train.callbacks.report", lambda sweep: lambda percent,
        value: "a reason" if sweep.trial == 1 else None,
    )
    main(["train", "-m", *TINY, "sweep.trials=2", "sweep.study=one"])
    status = json.loads((tmp_path / "runs" / "sweeps" / "one" / "1" / "status.json").read_text())
    assert status["state"] == "stopped"
    assert "Ended by the search at step 1 of 2: a reason." in status["why"]


def test_a_search_without_m_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY]) == 2
    assert "write fulgurite train -m before the words" in capsys.readouterr().err


def test_no_trial_outlives_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    from fulgurite.train import fit
    from fulgurite.train.pieces import Pieces

    seen: list[weakref.ref[object]] = []
    alive_at_the_next: list[int] = []
    prepare = fit.prepare

    def noted(pieces: Pieces) -> None:
        alive_at_the_next.append(sum(ref() is not None for ref in seen))
        prepare(pieces)
        heavy = (
            pieces.module, pieces.module.model, pieces.trainer, pieces.callbacks.samples, pieces.callbacks.stop,
            pieces.data
        )
        seen.extend(weakref.ref(thing) for thing in heavy)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit, "prepare", noted)
    assert main(["train", "-m", *TINY, "sweep.trials=3"]) == 0
    gc.collect()
    assert len(seen) == 3 * 6
    assert alive_at_the_next == [0, 0, 0]
    assert [ref() for ref in seen if ref() is not None] == []


def test_the_command_of_a_wandb_agent_runs_and_no_drawn_value_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    spec = yaml.safe_load((ROOT / "sweeps" / "wandb" / "sft_lora.yaml").read_text())
    drawn = {name: {"value": p["values"][-1] if "values" in p else p["max"]} for name, p in spec["parameters"].items()}
    words = create_sweep_command(spec["command"])
    place = words.index("${args_no_hyphens}")
    words[place:] = create_sweep_command_args({"args": drawn})["args_no_hyphens"]
    assert words[0] == "fulgurite"
    for name, value in {"WANDB_SWEEP_ID": "abcd1234", "WANDB_RUN_ID": "ab12cd34", "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)  # as the agent does
    monkeypatch.chdir(tmp_path)
    own = ("trainer.global_batch_size", "trainer.max_steps")
    tiny = [word for word in TINY[2:] if not word.startswith(own)]  # two epochs in batches of 128 are too few steps
    assert main([*words[1:], *tiny, "stage.prompts=[]", "run_dir=run"]) == 0
    knobs = json.loads(Path("run/provenance.json").read_text())["knobs"]
    assert {name: knobs[name]["value"] for name in drawn} == {name: p["value"] for name, p in drawn.items()}
    allowed = [t for t in json.loads(Path("run/troubles.json").read_text()) if t["severity"] == "error"]
    assert {(t["rule"], t["allowed"]) for t in allowed} == {("steps.too-few", True)}
    assert list(Path("run").rglob("offline-run-*-ab12cd34"))
