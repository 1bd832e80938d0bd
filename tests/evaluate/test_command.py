"""`fulgurite eval` from its words to eval.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import tiny

from fulgurite.cli.main import main
from fulgurite.evaluate.result import read_results


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["eval", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_is_measured_printed_and_kept(sft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(read_results(sft))
    found = run_json(capsys, f"run={sft}", "checkpoint=last")
    assert (found["checkpoint"], found["step"], found["settings"]) == ("step-4", 4, {})
    assert found["data"]["part"] == "validation"
    assert len(found["data"]["hash"]) == 64
    assert found["numbers"].keys() == {"loss", "perplexity", "bits_per_byte"}
    assert read_results(sft)[before:] == [found]
    assert main(["eval", f"run={sft}", "checkpoint=last"]) == 0
    assert f"{found['numbers']['loss']:.4f}" in capsys.readouterr().out
    assert read_results(sft)[-1]["numbers"] == found["numbers"]


def test_data_that_changed_since_training_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "data.jsonl"
    records = [{"prompt": f"Question {n}?", "completion": f"Answer {n}."} for n in range(20)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    words = ("data=file", f"data.path={file}", "data.val_fraction=0.3", "trainer.max_steps=1", "optim.lr=1e-3")
    run = tiny(tmp_path / "run", *words)
    capsys.readouterr()
    for warns in (False, True):
        assert main(["eval", f"run={run}"]) == 0
        assert ("have changed since training" in "".join(capsys.readouterr())) is warns
        with file.open("a") as out:
            out.write(json.dumps({"prompt": "New?", "completion": "Yes."}) + "\n")
    assert main(["eval", f"run={run}", "data=file", f"data.path={file}"]) == 0
    assert "have changed" not in "".join(capsys.readouterr())


def test_answers_are_measured_by_metrics_and_rewards(sft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["metrics=[exact_match]", "reward=regex:.", "max_examples=3", "max_new_tokens=4", "batch_size=2"]
    found = run_json(capsys, f"run={sft}", *words)
    assert {"exact_match", "reward/regex:.", "answer_length", "cut"} <= found["numbers"].keys()
    assert found["counts"]["answers"] == found["counts"]["examples"] == 3
    assert found["settings"]["metrics"] == ["exact_match"]


def test_a_policy_is_measured_by_its_own_reward(grpo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, f"run={grpo}", "max_new_tokens=2", "max_examples=2")
    assert "loss" not in found["numbers"]
    assert 0.0 <= found["numbers"]["reward/regex:e"] <= 1.0


def test_code_that_a_run_names_as_its_reward_does_not_run(grpo: Path, tmp_path: Path) -> None:
    copy, code = tmp_path / "run", tmp_path / "mine.py"
    shutil.copytree(grpo, copy, symlinks=True)
    body = "def score(prompts, answers, **columns):\n    return [1.0]\n"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{body}")
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("regex:e", f"{code}:score"))
    assert main(["eval", f"run={copy}"]) == 2
    assert not (tmp_path / "ran").exists()


def test_a_model_without_a_run_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, "model=tiny", "data=guide", "precision=fp32", "max_examples=2")
    assert (found["subject"], found["checkpoint"], found["data"]["part"]) == ("tiny", None, "files")
    assert found["numbers"]["loss"] > 0


@pytest.mark.parametrize(("words", "sentence"), [
    (["metrics=nothing"], "There is no metric nothing"), (["optim.lr=1"], "has no parameter optim.lr"),
    (["model.path=x"], "is not possible with run="), (["checkpoint=step-99"], "has no checkpoint step-99"),
    (["data=file", "data.path=/no.jsonl"], "/no.jsonl"),
])
def test_a_wrong_request_is_one_line(
    sft: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(read_results(sft))
    assert main(["eval", f"run={sft}", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line
    assert len(read_results(sft)) == before


def test_a_reward_model_writes_no_answers(rm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", f"run={rm}", "metrics=exact_match"]) == 2
    assert "is a reward model" in capsys.readouterr().err


def test_a_run_is_compared_with_its_beginning(sft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    words = ["against=start", f"out={table}", "reward=length:3", "max_examples=4", "max_new_tokens=3"]
    found = run_json(capsys, f"run={sft}", "checkpoint=last", *words)
    assert found["numbers"]["win_rate/reward/length:3"] == 0.5  # every answer is cut at three tokens
    assert found["comparison"]["table"] == str(table)
    key = json.loads((tmp_path / "table.key.json").read_text())
    assert (key["first"], key["second"]) == (f"{sft}:step-4", f"{sft}:start")
    assert main(["eval", f"run={sft}", *words]) == 2
    assert "exists already" in capsys.readouterr().err
    text = table.read_text().replace(",\n", ",left\n")
    table.write_text(text)
    assert main(["eval", f"judged={table}", "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)
    assert rate["wins"] + rate["ties"] + rate["losses"] == 4
    kept = read_results(sft)[-1]
    assert kept["numbers"] == {
        "win_rate": rate["rate"], "win_rate_low": rate["low"], "win_rate_high": rate["high"],
    }
    assert (kept["checkpoint"], kept["step"], kept["counts"]) == ("step-4", 4, {"judged": 4, "unjudged": 0})
    assert kept["comparison"] == {"against": f"{sft}:start", "table": str(table)}
    assert main(["eval", f"judged={table}"]) == 0
    assert "95 % interval" in capsys.readouterr().out


def test_a_model_against_itself_ties(sft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"against={sft}", f"out={tmp_path / 't.csv'}", "max_examples=3", "max_new_tokens=3"]
    run_json(capsys, f"run={sft}", *words)
    assert main(["eval", f"judged={tmp_path / 't.csv'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ties"] == 3
