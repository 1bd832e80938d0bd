"""The group `callback`: which callbacks a run has, where they stand, and that a run without them computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.runs import rows, tiny

from fulgurite.checkpoint.resume import changes
from fulgurite.config.compose import compose
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible

BARE = ["data.val_fraction=0", "trainer.max_steps=2"]


def test_a_run_without_callbacks_has_the_same_numbers(tmp_path: Path) -> None:
    usual, bare = tiny(tmp_path / "usual", *BARE), tiny(tmp_path / "bare", *BARE, "callback=none")
    assert rows(bare) == rows(usual)
    assert json.loads((bare / "status.json").read_text())["state"] == "finished"
    assert not (bare / "samples.jsonl").exists()


def test_what_writes_to_trackers_needs_one() -> None:
    for tracker in ("none", "csv"):
        with pytest.raises(ConfigError, match="callback=lr_monitor writes to a tracker, and this run has none"):
            refuse_impossible(compose(["callback=[samples,lr_monitor]", f"logger={tracker}"]).run)
    refuse_impossible(compose(["callback=[samples,lr_monitor]", "logger=[csv,tensorboard]"]).run)
    with pytest.raises(
        ConfigError, match=r"callback\.lr_monitor\.log_momentum is not a parameter .* belongs to callback=lr_monitor"
    ):
        compose(["callback.lr_monitor.log_momentum=true"])


def test_a_resumed_run_may_have_other_watchers_and_no_other_callbacks() -> None:
    def chosen(*names: str) -> dict[str, Any]:
        return {"callback": {name: {"option": name} for name in names}}

    assert changes(chosen("samples", "monitor"), chosen("progress")) == []
    assert changes(chosen("samples"), {"callback": {}}) == []
    assert [str(change) for change in changes(chosen("samples"), chosen("samples", "mine"))] == [
        'callback.mine (absent) → "mine"'
    ]
