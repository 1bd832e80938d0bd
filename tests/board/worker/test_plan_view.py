"""The answer of a plan, beside `fulgurite plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fulgurite.board.draft import read_draft
from fulgurite.board.worker.main import Worker
from fulgurite.board.worker.remedy import apply_changes
from fulgurite.train.experiment import experiment


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return Worker([tmp_path_factory.mktemp("root")])


def plan(worker: Worker, draft: Any, language: str = "en") -> dict[str, Any]:
    found = worker.answer({"id": 1, "kind": "plan", "draft": draft, "lang": language})
    assert found["status"] == 200, found
    body: dict[str, Any] = found["body"]
    return body


def test_numbers_are_those_of_the_command(worker: Worker) -> None:
    draft = {"choices": {"model": "tiny", "scheduler": "linear"}, "values": {"trainer.max_steps": "40"}}
    found = plan(worker, draft)
    known = experiment("model=tiny", "scheduler=linear", "trainer.max_steps=40").plan().to_dict()
    for ours, theirs in (("steps", "steps"), ("rows", "rows"), ("tokens", "tokens"), ("trainable", "trainable"),
                         ("parameters_total", "parameters"), ("warmup_steps", "warmup_steps")):
        assert found[ours] == known[theirs]
    assert found["memory"]["peak"] == known["memory"]["peak"]
    assert found["memory"]["phases"]["training"]["total"] == known["memory"]["training"]["total"]
    assert found["disk"]["total"] == known["disk"]["total"]
    values = {row["path"]: row["value"] for rows in found["parameters"].values() for row in rows}
    assert all(value == known["knobs"][path]["value"] for path, value in values.items())
    assert found["command"] == "fulgurite train model=tiny scheduler=linear trainer.max_steps=40"
    assert found["groups"] | {"model": "tiny", "scheduler": "linear", "method": "lora"} == found["groups"]
    assert json.loads(json.dumps(found)) == found


def test_schedule_has_the_corner_of_the_warmup(worker: Worker) -> None:
    values = {"trainer.max_steps": "1000", "scheduler.warmup_steps": "37", "optim.lr": "1e-3"}
    found = plan(worker, {"choices": {"model": "tiny", "scheduler": "linear"}, "values": values})["schedule"]
    steps = [step for step, _ in found["points"]]
    assert len(steps) <= 200
    assert (steps[0], steps[-1]) == (0, 999)
    assert max(found["points"], key=lambda point: point[1])[0] == 37
    assert max(rate for _, rate in found["points"]) == pytest.approx(1e-3)
    plateau = plan(worker, {"choices": {"model": "tiny", "scheduler": "reduce_lr_on_plateau"}})
    assert plateau["schedule"] is None
    one = plan(worker, {"choices": {"model": "tiny"}, "values": {"trainer.max_steps": "1"}})
    assert len(one["schedule"]["points"]) == 1


def test_lengths_have_the_cut(worker: Worker) -> None:
    found = plan(worker, {"choices": {"model": "tiny"}, "values": {"data.max_length": "128"}})["lengths"]
    assert found["cut"] == 128
    assert found["longer"] == sum(count for top, count in found["bins"] if top > 128)
    assert found["p99"] <= found["max"]


FLAWS = [
    ("rate.low-for-lora", {"optim.lr": "5e-5"}), ("value.unusual", {"trainer.keep_checkpoints": "9"}),
    ("value.unusual", {"optim.weight_decay": "0.5"}), ("rate.out-of-band", {"optim.lr": "0.5"}),
    ("steps.too-few", {"trainer.global_batch_size": "64"}),
]


@pytest.mark.parametrize(("rule", "values"), FLAWS)
def test_button_of_a_finding_clears_it(worker: Worker, rule: str, values: dict[str, str]) -> None:
    draft = {"choices": {"model": "tiny"}, "values": values}
    found = next(entry for entry in plan(worker, draft)["findings"] if entry["rule"] == rule)
    assert found["sentence"].endswith(".")
    changed = apply_changes(read_draft(draft), found["changes"]).to_json()
    left = [entry for entry in plan(worker, changed)["findings"] if entry["rule"] == rule]
    assert all(entry["sentence"] != found["sentence"] for entry in left)
    assert rule == "steps.too-few" or not left


def test_error_that_may_be_allowed_has_a_change_that_allows_it(worker: Worker) -> None:
    draft = {"choices": {"model": "tiny", "data": "file"}, "values": {"data.path": "x", "data.max_length": "8"}}
    file = worker.roots.folders[0] / "few.jsonl"
    record = json.dumps({"instruction": "What is it?", "output": "It is a long test " * 30})
    file.write_text((record + "\n") * 30)
    draft["values"] = {"data.path": str(file), "data.max_length": "64", "data.too_long": "truncate"}
    found = plan(worker, draft)
    refusing = [entry for entry in found["findings"] if entry["refuses"]]
    if not refusing:  # a toy model may be refused nothing
        assert found["refused"] is False
        return
    changed = apply_changes(read_draft(draft), refusing[0]["insist"]).to_json()
    again = next(entry for entry in plan(worker, changed)["findings"] if entry["rule"] == refusing[0]["rule"])
    assert again["allowed"]


def test_everything_a_person_reads_is_in_the_language_asked_for(worker: Worker) -> None:
    draft = {"choices": {"model": "tiny"}, "values": {"optim.lr": "5e-5", "trainer.keep_checkpoints": "9"}}
    found = plan(worker, draft, "zh")
    texts = [found["sentence"], *found["memory"]["labels"].values()]
    texts += [entry["sentence"] for entry in found["findings"]]
    rows = [row for rows in found["parameters"].values() for row in rows]
    texts += [row["title"] for row in rows] + [row["advice"] for row in rows if row["advice"]]
    latin = [text for text in texts if not any("\u4e00" <= sign <= "\u9fff" for sign in text)]
    assert set(latin) <= {"Beta"}, latin


def test_search_is_planned_as_one_of_its_runs(worker: Worker) -> None:
    found = plan(worker, {"choices": {"model": "tiny"}, "adds": {"sweep": "sft_lora"}, "values": {"sweep.trials": "4"}})
    assert found["command"] == "fulgurite train -m +sweep=sft_lora model=tiny sweep.trials=4"
    assert any(row["path"] == "sweep.trials" for rows in found["parameters"].values() for row in rows)


def test_plan_makes_no_file(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan(worker, {"choices": {"model": "tiny"}})
    assert list(tmp_path.iterdir()) == []
