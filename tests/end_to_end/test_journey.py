"""The journey and the experiments, cut to two steps on the tiny model. Experiments are found by a glob and counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from examples import journey
from tests.end_to_end.runs import losses, tiny

from fulgurite.config.compose import compose

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
SMALL = ["trainer.max_steps=2", "trainer.global_batch_size=4", "precision=fp32", "data.max_samples=44"]


def test_they_are_all_here() -> None:
    names = ["dpo_guide", "grpo_answers", "kto_guide", "ppo_length", "rm_form", "rm_guide", "sft_guide"]
    assert [path.stem for path in EXPERIMENTS] == names


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_it_says_why_and_what_was_measured(path: Path) -> None:
    first, why, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first == "# @package _global_"
    assert re.fullmatch(r"# [A-Z].+\.", why)
    said = " ".join(
        line.lstrip("# ") for line in rest[: next(n for n, line in enumerate(rest) if not line.startswith("#"))]
    )
    assert re.match(r"Measured once on (one core|two cores), \d+ minutes?: ", said), said
    assert re.search(r"\d( %| \(step \d+\))? → -?\d", said), said


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_nothing_in_it_is_outside_the_usual_but_by_intention(path: Path) -> None:
    composed = compose([f"+experiment={path.stem}"])
    assert "preset" in {origin.origin for origin in composed.provenance.values()} or path.stem == "sft_guide"
    lines = path.read_text(encoding="utf-8").splitlines()
    for warning in composed.warnings:
        knob = warning.partition("=")[0].rpartition(".")[2]
        assert any(re.match(rf"  {knob}: \S+ +# \w+", line) for line in lines), (
            f"{path.name} must say beside it why: {warning}"
        )


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_it_trains_two_steps(path: Path, tmp_path: Path) -> None:
    more = ["stage.max_new_tokens=8"] if path.stem.startswith(("ppo", "grpo")) else []
    if path.stem.startswith("rm"):
        more.append("stage=rm")  # `tiny` must know that it does not speak
    folder = tiny(tmp_path / "run", f"+experiment={path.stem}", *SMALL, *more)
    assert len(losses(folder)) == 2


def test_the_journey_runs_and_each_stage_starts_from_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*SMALL, "model=tiny", "trainer.eval_every=2"]
    assert journey.main([str(tmp_path), *more]) == 0
    printed = capsys.readouterr()
    said = printed.out + printed.err
    table = re.findall(r"^\| (\w+) \| (\d+) \| (.+) \|$", said, re.MULTILINE)
    assert [name for name, _, _ in table] == ["sft", "rm", "ppo", "dpo"]
    assert all(re.search(r"-?\d\.\d\d → -?\d\.\d\d", numbers) for _, _, numbers in table)
    given = {name: json.loads((tmp_path / name / "provenance.json").read_text())["overrides"] for name, _, _ in table}
    assert "model=tiny" in given["sft"]
    for name in ("rm", "ppo", "dpo"):
        assert f"model.path={tmp_path / 'sft'}" in given[name]
    assert f'stage.reward=["{tmp_path / "rm"}"]' in given["ppo"]
    assert said.count("before (step 0)") >= 3
    for name in ("sft", "ppo", "dpo"):
        steps = {json.loads(line)["step"] for line in (tmp_path / name / "samples.jsonl").read_text().splitlines()}
        assert steps == {0, 2}
