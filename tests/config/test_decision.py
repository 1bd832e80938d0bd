"""Decisions: stored as plain values, read back as they were, with a sentence that no code reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import rows, weights
from tests.run.halved_run import run_short_of_memory

from fulgurite.config.decision import Decision, Kind, read_decision
from fulgurite.config.resolve import MICRO_BATCH
from fulgurite.language.message import UserMessage, message
from fulgurite.run.folder import read_config, read_provenance


def test_a_decision_is_read_back_from_its_stored_form() -> None:
    free = message("{free:.3g} GB are free", free=1.5)
    why = message("{before}; confirmed by a trial step, {tokens} tokens", before=free, tokens=64)
    made = Decision(MICRO_BATCH, 4, Kind.confirmed, why)
    stored = json.loads(json.dumps(made.to_json(4)))
    assert read_decision(MICRO_BATCH, stored) == made
    assert stored["origin"] == "derived"
    assert stored["reason"] == "1.5 GB are free; confirmed by a trial step, 64 tokens"
    old = read_decision("seed", {"value": 3, "origin": "preset", "reason": "conf/a.yaml"})
    assert (old.kind, old.reason) == (Kind.preset, "conf/a.yaml")


@pytest.mark.parametrize(("kind", "origin", "derived"), [
    (Kind.default, "default", False), (Kind.preset, "preset", False), (Kind.command_line, "command line", False),
    (Kind.derived, "derived", True), (Kind.fitted, "derived", True), (Kind.halved, "derived", True),
])
def test_readers_see_four_origins(kind: Kind, origin: str, derived: bool) -> None:
    made = Decision("seed", 3, kind, UserMessage("as given"))
    assert (made.origin, made.derived, made.reason) == (origin, derived, "as given")
    assert ("because" in made.to_json(3)) is derived  # other values need no reason on a resume


def test_reasons_of_earlier_versions_are_read() -> None:
    stored = {"value": 4, "origin": "derived", "reason": "", "kind": "halved", "because": {
        "key": "halved", "facts": {"before": 8, "step": {"key": "words", "facts": {"words": "three"}}},
    }}
    found = read_decision(MICRO_BATCH, stored).reason
    assert found == "halved from 8, which was out of memory at step three; the mathematics is the same"


def test_a_run_reads_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every reason replaced by another text a run halves, goes on, resumes and writes the same."""
    plain = run_short_of_memory(tmp_path / "plain", monkeypatch)
    monkeypatch.setattr(UserMessage, "__str__", lambda self: "halved confirmed by a trial step command line")
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
