"""The monitor on real runs of the tiny model: silent if all is well in each family of stages, and heard if not."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import rows, tiny
from tests.stage.preference_data import judged, pairs, written

from fulgurite.config.compose import compose
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import ConfigError, TrainingFailed
from fulgurite.monitor import thresholds as limits
from fulgurite.monitor.context import build_about
from fulgurite.monitor.history import About
from fulgurite.run.folder import read_config
from fulgurite.run.listing import summarize_run
from fulgurite.train.experiment import Experiment

HEALTHY = {
    "sft": ["stage=sft", "optim.lr=3e-3", "trainer.max_steps=130", "trainer.eval_every=20", "stage.prompts=null",
        "stage.max_new_tokens=16"],
    "sft full": ["stage=sft", "method=full", "optim.lr=2e-3", "trainer.max_steps=60", "trainer.eval_every=10"],
    "dpo": ["stage=dpo", "optim.lr=1e-3", "trainer.max_steps=110", "trainer.eval_every=25"],
    "kto": [
        "stage=kto",
        "optim.lr=1e-3",
        "trainer.max_steps=30",
        "trainer.global_batch_size=16",
        "trainer.eval_every=10",
    ],
    "rm": ["stage=rm", "optim.lr=3e-3", "trainer.max_steps=60", "trainer.global_batch_size=8", "trainer.eval_every=20"],
}
"""grpo and ppo, which take longest: test_policy.py asks the same of the runs it has."""


def told(folder: Path) -> list[tuple[int, str]]:
    path = folder / "watch.jsonl"
    return (
        [(row["step"], row["rule"]) for row in map(json.loads, path.read_text().splitlines())] if path.exists() else []
    )


def compared(stage: str, folder: Path, by_chance: bool = False) -> list[str]:
    """The words for the pairs, or the judged answers, that a stage compares; by chance the better answer is any."""
    if stage not in ("dpo", "kto", "rm"):
        return []
    records = judged(40) if stage == "kto" else pairs(80)
    if by_chance:
        names = [("chosen", "rejected")[:: random.Random(n).choice((1, -1))] for n in range(80)]
        records = [
            {"prompt": r["prompt"], a: r["chosen"], b: r["rejected"]} for (a, b), r in zip(names, records, strict=True)
        ]
    path = written(folder / f"{stage}.jsonl", records)
    return ["data=file", f"data.path={path}", "data.max_samples=null"]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_triggers_no_rule(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny(tmp_path / "run", *compared(name.partition(" ")[0], tmp_path), *HEALTHY[name])
    assert told(folder) == []
    said = capsys.readouterr().err
    assert "Done: " in said
    assert "warning (" not in said
    assert "note (" not in said
    measured = [row["step"] for row in rows(folder) if "train/update_ratio" in row]
    assert measured[:5] == [1, 2, 4, 8, 16]


TROUBLED: dict[str, tuple[list[str], tuple[int, str]]] = {
    "a rate that moves nothing": (
        ["optim.lr=1e-12", "trainer.max_steps=4", "scheduler=constant"],
        (4, "adapter-moves"),
    ),
    "a rate too low": (
        ["optim.lr=1e-6", "trainer.max_steps=30", "scheduler=constant", "trainer.global_batch_size=16"],
        (30, "plateau"),
    ),
    "few rows by heart": (
        ["method=full", "optim.lr=1e-2", "trainer.max_steps=15", "trainer.eval_every=3", "scheduler=constant"],
        (15, "overfit"),
    ),
    "a tight limit": (
        ["optim.lr=3e-3", "trainer.max_grad_norm=0.01", "trainer.max_steps=50", "scheduler=constant"],
        (50, "clip-share"),
    ),
    "steps that are rounded away": (
        [
            "method=full",
            "precision=pure_bf16",
            "precision.rounding=nearest",
            "optim.lr=1e-6",
            "trainer.max_steps=10",
            "scheduler=constant",
        ],
        (10, "rounded-away"),
    ),
    "answers as before": (["optim.lr=1e-12", "trainer.max_steps=2", "stage.prompts=[a,b,c,d]"], (2, "before-after")),
    "a reward model that learns nothing": (
        ["stage=rm", "optim.lr=1e-5", "trainer.max_steps=50", "trainer.global_batch_size=1", "scheduler=constant"],
        (50, "rm-stuck"),
    ),
}


def few_codes(path: Path) -> list[str]:
    """Four words with codes by chance, one of them held out: nothing that is learned of three helps with the fourth."""
    chance, words = random.Random(0), ("red", "blue", "green", "grey")
    rows = [{"prompt": f"What is the code of {word}?", "completion": chance.randbytes(16).hex()} for word in words]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ["data=file", f"data.path={path}", "data.val_fraction=0.25"]


@pytest.mark.parametrize("name", TROUBLED)
def test_a_run_in_trouble_triggers_its_rule(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, expected = TROUBLED[name]
    stage = "rm" if "stage=rm" in words else "sft"
    data = (
        few_codes(tmp_path / "codes.jsonl")
        if name == "few rows by heart"
        else compared(stage, tmp_path, by_chance=True)
    )
    folder = tiny(tmp_path / "run", *data, *words)
    assert expected in told(folder)
    assert f"({expected[1]}, step {expected[0]}): " in capsys.readouterr().err
    assert "watch.jsonl" in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "words", [["precision.rounding=stochastic", "optim.lr=1e-6"], ["precision.rounding=nearest", "optim.lr=2e-3"]]
)
def test_rounded_away_is_silent_with_stochastic_rounding_or_large_steps(
    tmp_path: Path, words: list[str]
) -> None:
    folder = tiny(tmp_path, "method=full", "precision=pure_bf16", "trainer.max_steps=12", "scheduler=constant", *words)
    shares = [row["train/unchanged"] for row in rows(folder) if "train/unchanged" in row]
    assert len(shares) == 12
    assert min(shares) > 0.5 or "optim.lr=2e-3" in words
    assert "rounded-away" not in {rule for _, rule in told(folder)}


def test_a_step_that_is_too_large_triggers_update_high(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        limits, "UPDATE_HIGH", 0.02
    )  # the tiny model bears the highest rate there is: 0.055 at step 8, 0.032 at 16
    folder = tiny(tmp_path, "method=full", "optim.lr=1e-2", "trainer.max_steps=16", "scheduler=constant")
    assert told(folder) == [(16, "update-high")]


WILD = ["method=full", "optim.lr=0.99", "trainer.max_steps=8", "trainer.global_batch_size=8", "scheduler=constant"]


def test_a_loss_that_climbs_from_the_second_step_triggers_diverged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = (
        r"^Step 6: The loss is \d+(\.\d)? over the last 5 steps, but .* ln\(512\) = 6\.24: "
        r"what the model knew is lost\."
    )
    with pytest.raises(TrainingFailed, match=sentence):
        tiny(tmp_path, *WILD)
    assert told(tmp_path) == [(1, "update-high"), (2, "diverged"), (6, "above-chance")]
    assert rows(tmp_path)[1]["train/loss"] > 20
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    assert "Done" not in capsys.readouterr().err


def test_a_diverged_run_that_was_let_go_on_does_not_end_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny(tmp_path, *WILD, "monitor.ignore=[above-chance]")
    kept = json.loads((tmp_path / "status.json").read_text())
    assert (kept["state"], kept["warnings"]) == ("diverged", ["update-high (step 1)", "diverged (step 2)"])
    said = capsys.readouterr().err
    assert (
        "Diverged: update-high (step 1), diverged (step 2); the model is not better than before training. "
        "It ended after 8 steps"
        in said
    )
    assert "Done" not in said
    assert summarize_run(tmp_path).state == "diverged"


def test_a_first_loss_above_chance_stops_the_run_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fulgurite.stage.causal_lm import LanguageStage

    plain = LanguageStage.compute_total_loss
    monkeypatch.setattr(
        LanguageStage, "compute_total_loss", lambda self, batch: 1.5 * plain(self, batch)
    )  # a model of another tokenizer
    with pytest.raises(
        TrainingFailed, match=r"Step 1: The first loss is 9\.\d+, but a model that has learned nothing has ln\("
    ):
        tiny(tmp_path / "stopped")
    assert told(tmp_path / "stopped") == [(1, "step-zero")]
    assert json.loads((tmp_path / "stopped" / "status.json").read_text())["state"] == "failed"
    assert told(tiny(tmp_path / "allowed", "monitor.ignore=[step-zero]")) == []


def test_an_unknown_rule_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"monitor\.ignore=clip-shar is no rule"):
        tiny(tmp_path / "run", "monitor.ignore=[clip-shar]")
    assert not (tmp_path / "run").exists()


def state(run: Path) -> dict[str, Any]:
    last = run / "checkpoints" / "last"
    kept = {file.name: file.read_bytes() for file in sorted(last.iterdir())}
    return kept | {"step": last.resolve().name, "rows": rows(run), "watch": (run / "watch.jsonl").read_text()}


def test_a_resumed_run_triggers_the_rules_of_an_uninterrupted_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "optim.lr=1e-7", "trainer.max_steps=40", "trainer.save_every=1", "trainer.keep_checkpoints=99",
        "trainer.max_grad_norm=0.01",
    ]
    words += ["scheduler=constant", "trainer.eval_every=9", "monitor.ignore=[update-high]",
        "trainer.global_batch_size=16"]
    whole = tiny(tmp_path / "run", *words)
    expected = state(whole)
    assert told(whole) == [(40, "plateau")]
    killed, again = 27, tmp_path / "again"
    shutil.copytree(whole, again, symlinks=True)
    for step in range(killed + 1, 41):
        shutil.rmtree(again / "checkpoints" / f"step-{step}")
    for link in ("last", "best"):
        (again / "checkpoints" / link).unlink()
    capsys.readouterr()
    assert state(tiny(again, *words)) == expected
    assert capsys.readouterr().err.count("warning (plateau, step 40)") == 1
    # another choice of what to hear is no other run
    shutil.rmtree(again / "checkpoints" / "step-40")
    for link in ("last", "best"):
        (again / "checkpoints" / link).unlink()
    assert told(tiny(again, *words, "monitor.ignore=[plateau]")) == []


def test_a_config_of_before_the_watch_is_read(tmp_path: Path) -> None:
    kept = read_config(tiny(tmp_path, "monitor.ignore=[ties]"))
    assert kept["monitor"] == {"ignore": ["ties"]}
    assert rebuild_run(kept).monitor.ignore == ["ties"]
    del kept["monitor"]
    assert rebuild_run(kept).monitor.ignore == []


def test_the_rules_know_the_run(tmp_path: Path) -> None:
    """What `build_about` reads from an assembled run, a preference run with a reference and one without."""
    found = {}
    for name, words in {
        "dpo": [],
        "simpo": ["stage.loss=simpo"],
        "sft": ["stage=sft", "data=guide", "method=full"],
    }.items():
        said = [
            "stage=dpo", *compared("dpo", tmp_path), *words, "model=tiny", "precision=fp32", "optim.lr=1e-3",
            "stage.prompts=[]",
        ]
        said = list({w.partition("=")[0]: w for w in said}.values())
        said = [w for w in said if name != "sft" or not w.startswith(("data.path", "data.max_samples"))]
        composed = compose([*said, f"run_dir={tmp_path / name}", "trainer.max_steps=50", "trainer.global_batch_size=8"])
        made = Experiment(composed)
        found[name] = build_about(50, made.module, made.data.rows)
    assert found["dpo"] == About(
        "dpo", "sigmoid", True, 1e-3, 5, 50, 8, 1.0, False, 512, beta=0.1, paired=True,
        answer_tokens=found["dpo"].answer_tokens,
        max_new_tokens=64, lowest_lr=1e-5, highest_lr=5e-4, exact=True,
    )
    assert 5 < (found["dpo"].answer_tokens or 0) < 30
    assert (found["simpo"].paired, found["simpo"].beta, found["sft"].adapter) == (False, 2.0, False)
