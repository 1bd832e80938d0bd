"""W&B artifacts of a run: what is in them, and which name links a run to an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fulgurite.logger.tracked_run import RunInput
from fulgurite.logger.wandb_artifacts import (
    build_checkpoint_artifact,
    build_input_artifact,
    clean_name,
    find_model_artifact,
    link_inputs,
    use_input,
)


class Experiment:
    """Notes what is linked; an artifact by name exists if it is in `there`."""

    def __init__(self, *there: str) -> None:
        self.there, self.used = there, list[Any]()

    def use_artifact(self, artifact: Any, type: str | None = None) -> None:
        if isinstance(artifact, str) and artifact not in self.there:
            raise ValueError(f"{artifact} does not exist")
        self.used.append(artifact if isinstance(artifact, str) else (artifact.type, artifact.name))


def make_earlier(folder: Path) -> Path:
    (folder / "wandb").mkdir(parents=True)
    (folder / "wandb" / "path").write_text("me/other/ab12\n")
    return folder


def test_a_checkpoint_artifact_is_a_run_folder(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "step-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.safetensors").write_text("w")
    (tmp_path / "config.yaml").write_text("seed: 1")
    artifact = build_checkpoint_artifact("ab12", tmp_path, checkpoint, copies=False)
    assert (artifact.name, artifact.type, artifact.metadata) == ("model-ab12", "model", {"checkpoint": "step-3"})
    assert set(artifact.manifest.entries) == {"config.yaml", "checkpoints/step-3/weights.safetensors"}
    assert artifact.manifest.entries["checkpoints/step-3/weights.safetensors"].local_path == str(
        checkpoint / "weights.safetensors"
    )


def test_a_checkpoint_that_is_gone_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert build_checkpoint_artifact("ab12", tmp_path, tmp_path / "checkpoints" / "step-3", copies=True) is None
    assert "W&B gets no artifact of step-3" in caplog.text


def test_the_same_input_is_the_same_version(tmp_path: Path) -> None:
    report = tmp_path / "data_report.json"
    report.write_text("{}")
    one, same = (
        build_input_artifact(RunInput("dataset", "data-x", {"b": 1, "a": [2]}, (report, tmp_path / "missing")))
        for _ in range(2)
    )
    other = build_input_artifact(RunInput("dataset", "data-x", {"b": 1, "a": [3]}, (report,)))
    assert set(one.manifest.entries) == {"dataset.json", "data_report.json"}
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(("name", "clean"), [
    ("data-guide", "data-guide"), ("model-owner/naïve model", "model-owner-na-ve-model"), ("x" * 200, "x" * 128),
])
def test_a_name_has_only_what_wandb_allows(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_an_earlier_run_is_linked_by_its_own_artifact_if_it_has_one(tmp_path: Path) -> None:
    assert find_model_artifact(tmp_path) == ""
    name = "me/other/model-ab12:latest"
    assert find_model_artifact(make_earlier(tmp_path / "run")) == name
    earlier = RunInput("model", "model-run", {"path": "run"}, run=tmp_path / "run")
    known, kept = Experiment(name), Experiment()
    use_input(known, earlier)
    use_input(kept, earlier)
    assert (known.used, kept.used) == ([name], [("model", "model-run")])


def test_an_input_that_is_not_linked_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        def use_artifact(self, artifact: Any) -> None:
            raise RuntimeError("no\nquota")

    link_inputs(Refusing(), [RunInput("dataset", "data-x", {})]).join(10)
    assert [r.getMessage() for r in caplog.records] == [
        "W&B does not link the input data-x (no); it is in the run's config."
    ]
