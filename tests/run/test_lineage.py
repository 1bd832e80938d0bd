"""What a run is made from, as the trackers get it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.run import lineage
from fulgurite.run.lineage import list_inputs, name_path


def make_source(*files: str) -> Any:
    seal = SimpleNamespace(hex=lambda: "5ea1")
    return SimpleNamespace(
        config=SimpleNamespace(name="file"), files=[Path(name) for name in files], checked=SimpleNamespace(seal=seal)
    )


def make_earlier(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 1")
    return folder


def test_data_is_its_records_and_report(tmp_path: Path) -> None:
    run = compose(["model=tiny"]).run
    data, model = list_inputs(run.model, run.method, run.stage, make_source("/d/mine.jsonl", "/d/more.jsonl"), tmp_path)
    assert (data.kind, data.name, data.files) == ("dataset", "data-file-mine", (tmp_path / "data_report.json",))
    assert data.facts == {"data": "file", "files": ["/d/mine.jsonl", "/d/more.jsonl"], "records_sha256": "5ea1"}
    assert (model.kind, model.name, model.run) == ("model", "model-tiny", None)


def test_a_model_adapter_and_reference_are_inputs_with_their_hashes_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {"weights": "w", "tokenizer": "t", "adapter": "a", "reference": "r", "reward": "not a model"}
    monkeypatch.setattr(lineage, "hash_inputs", lambda *parts: hashes)
    monkeypatch.setattr(lineage, "hash_start", lambda model: {"start": "s"})
    earlier = make_earlier(tmp_path / "runs" / "first")
    run = compose(["model=hf", f"model.path={earlier}", "method=lora", "data=guide_preference", "stage=dpo",
                   f"method.adapter_path={earlier}/checkpoints/best", "stage.reference=owner/base"]).run
    _, model, adapter, reference = list_inputs(run.model, run.method, run.stage, make_source("x.jsonl"), tmp_path)
    assert model.facts == {
        "role": "model", "path": str(earlier), "revision": None, "weights": "w", "tokenizer": "t", "start": "s",
    }
    assert (adapter.facts["adapter"], reference.facts["reference"]) == ("a", "r")
    assert (model.run, adapter.run, reference.run) == (earlier, earlier, None)
    assert [one.name for one in (model, adapter, reference)] == [
        "model-runs-first", "adapter-checkpoints-best", "reference-owner-base",
    ]


@pytest.mark.parametrize(("path", "name"), [
    ("HuggingFaceTB/SmolLM2", "HuggingFaceTB-SmolLM2"), ("tiny", "tiny"), ("/a/b/c", "b-c"),
    (r"C:\models\x", "models-x"),
])
def test_the_last_two_parts_of_a_path_are_its_name(path: str, name: str) -> None:
    assert name_path(path) == name
