"""A run is resolved once: its config is frozen, and its decisions are data whose sentences nobody reads back."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights

from fulgurite.config import decision
from fulgurite.config.compose import compose
from fulgurite.config.decision import Because, Decision, Kind, because, read_decision
from fulgurite.config.frozen import FrozenConfigError
from fulgurite.config.resolve import MICRO_BATCH, adopted, decide, fill, halve, in_folder, with_parts, with_values
from fulgurite.config.run import Facts
from fulgurite.run.folder import read_config, read_provenance
from fulgurite.run.resume_plan import REWOUND, preview_resume
from fulgurite.stage.causal_lm import LanguageStage

WORDS = ("method=full", "optim.lr=1e-3", "trainer.save_every=1", "scheduler=constant", "trainer.micro_batch_size=2")
SHORTAGE = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."


def run_short_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trains 3 steps, of which the third runs out of memory with 2 rows at a time, then a fourth after a resume."""
    plain = LanguageStage.total_loss

    def total_loss(self: LanguageStage, batch: dict[str, Any]) -> torch.Tensor:
        if self.training and self.trainer.global_step == 2 and len(self._window) == 2 and len(batch["rows"]) == 2:
            raise RuntimeError(SHORTAGE)
        return plain(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageStage, "total_loss", total_loss)
        tiny(folder, *WORDS, "trainer.max_steps=3")
    return tiny(folder, *WORDS, "trainer.max_steps=4", "resume.allow=[trainer.max_steps]")


def test_a_run_reads_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every reason replaced by another text a run halves, goes on, resumes and writes the same."""
    plain = run_short_of_memory(tmp_path / "plain", monkeypatch)
    monkeypatch.setattr(decision.Because, "__str__", lambda self: "halved confirmed by a trial step command line")
    monkeypatch.setattr(decision, "REASONS", {})
    found = run_short_of_memory(tmp_path / "found", monkeypatch)
    assert read_config(found)["trainer"]["micro_batch_size"] == 1
    assert rows(found) == rows(plain)
    one, two = weights(plain), weights(found)
    assert all(torch.equal(one[name], two[name]) for name in one)
    told, odd = (read_provenance(folder)["knobs"] for folder in (plain, found))
    assert odd[MICRO_BATCH]["reason"] != told[MICRO_BATCH]["reason"]
    assert [(n, k["value"], k["origin"], k.get("because")) for n, k in odd.items() if n != "run_dir"] == [
        (n, k["value"], k["origin"], k.get("because")) for n, k in told.items() if n != "run_dir"
    ]


def test_a_resume_plan_names_the_checkpoint_what_is_taken_over_and_what_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_short_of_memory(tmp_path, monkeypatch)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 9, "train/loss": 1.0}) + "\n")
    words = ["model=tiny", "precision=fp32", "data.max_samples=60", *WORDS, "trainer.max_steps=6"]
    plan = preview_resume(compose([*words, "resume.allow=[trainer.max_steps]"]), folder)
    assert plan is not None
    assert plan.checkpoint == folder / "checkpoints" / "step-4"
    assert [(found.parameter, found.value, found.kind) for found in plan.adopted] == [(MICRO_BATCH, 1, Kind.halved)]
    assert [change.knob for change in plan.allowed] == ["trainer.max_steps"]
    (metrics,) = [rewind for rewind in plan.rewinds if rewind.file == "metrics.jsonl"]
    assert (metrics.kept, metrics.dropped) == (4, 1)
    assert {rewind.file for rewind in plan.rewinds} <= set(REWOUND)
    assert "metrics.jsonl keeps 4 rows and drops 1" in plan.sentence()
    tiny(folder, *WORDS, "trainer.max_steps=5", "resume.allow=[trainer.max_steps]")
    assert [row["step"] for row in rows(folder)][:4] == [1, 2, 3, 4]  # as the plan has it
    assert 9 not in [row["step"] for row in rows(folder)]


@pytest.mark.parametrize("change", [
    lambda run: setattr(run.optim, "lr", 1.0),
    lambda run: setattr(run, "seed", 1),
    lambda run: setattr(run.resume, "run", "x"),
    lambda run: run.plugins.append("x"),
    lambda run: run.resume.allow.extend(["x"]),
    lambda run: run.logger.update(csv=None),
    lambda run: run.logger.pop("csv", None),
    lambda run: delattr(run.optim, "lr"),
])
def test_a_resolved_config_cannot_be_changed(change: Any) -> None:
    composed = compose(["model=tiny"])
    before = composed.config()
    for run in (composed.run, copy.deepcopy(composed.run), pickle.loads(pickle.dumps(composed.run))):
        with pytest.raises(FrozenConfigError):
            change(run)
    with pytest.raises((FrozenConfigError, TypeError)):
        composed.provenance["seed"] = Decision("seed", 1, Kind.default)  # type: ignore[index]
    assert composed.config() == before


def test_each_step_makes_another_run_and_leaves_the_first(tmp_path: Path) -> None:
    first = compose(["model=tiny", "trainer.micro_batch_size=4"])
    before = first.config()
    half = halve(first, 7)
    assert half.run.trainer.micro_batch_size == 2
    assert half.provenance[MICRO_BATCH].kind is Kind.halved
    assert half.provenance[MICRO_BATCH].reason.startswith("halved from 4, which was out of memory at step 7")
    placed = in_folder(first, tmp_path)
    assert placed.run.run_dir == str(tmp_path)
    assert placed.provenance["run_dir"] == first.provenance["run_dir"]
    assert with_parts(first, logger={}).run.logger == {}
    assert with_values(first, {"seed": 3}, Kind.derived, because("name")).run.seed == 3
    filled = fill(fill(first, Facts(percentile_99=60, rows=50, model_length=64), "data"), Facts(total_steps=9), "steps")
    assert filled.run.data.max_length == 64
    assert first.run.data.max_length is None
    assert first.config() == before


def test_a_decision_is_read_back_as_it_was() -> None:
    why = because("trial", before=because("free_memory", free=1.5, asked=8, need=2.0), tokens=64)
    made = Decision(MICRO_BATCH, 4, Kind.confirmed, why)
    stored = json.loads(json.dumps(made.as_json(4)))
    assert read_decision(MICRO_BATCH, stored) == made
    assert stored["origin"] == "derived"
    assert stored["reason"] == "1.5 GB are free, and 8 would need 2 GB; the mathematics is the same for every value; " \
        "confirmed by a trial step on the longest rows, 64 tokens"
    old = read_decision("seed", {"value": 3, "origin": "preset", "reason": "conf/a.yaml"})
    assert (old.kind, old.reason) == (Kind.preset, "conf/a.yaml")


@pytest.mark.parametrize(("then", "words", "taken"), [
    (Kind.halved, ["trainer.micro_batch_size=8"], True),
    (Kind.confirmed, ["trainer.micro_batch_size=8"], False),
    (Kind.fitted, [], True),
    (Kind.command_line, [], False),
    (Kind.halved, ["resume.allow=[trainer.micro_batch_size]"], False),
])
def test_what_a_resumed_run_takes_over(then: Kind, words: list[str], taken: bool) -> None:
    composed = compose(["model=tiny", *words])
    facts = Facts(percentile_99=60, rows=50, model_length=64, total_steps=9)
    composed = fill(fill(composed, facts, "data"), facts, "steps")
    stored = Decision(MICRO_BATCH, 2, then, Because("words", {"words": "any"}))
    found = adopted(composed, {MICRO_BATCH: stored})
    assert (found == [stored]) is taken
    assert (decide(composed, *found).run.trainer.micro_batch_size == 2) is taken
    assert adopted(replace(composed), {}) == []
