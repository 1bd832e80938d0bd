"""An export in W&B: a run of its own, whose input is the model of the training run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.logger.wandb_server import KEY, closed_port, serving

from fulgurite.cli.main import main

CODE = """
import sys
from pathlib import Path
from fulgurite.logger.wandb_export import track_export
print(track_export(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def track(folder: Path, url: str, **more: str) -> str:
    """What `track_export` prints about a small folder of a run that was online as me/fulgurite/ab12."""
    (folder / "run" / "wandb").mkdir(parents=True)
    (folder / "run" / "wandb" / "path").write_text("me/fulgurite/ab12")
    (folder / "out").mkdir()
    (folder / "out" / "config.json").write_text("{}")
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    env |= {"HOME": str(folder), "WANDB_BASE_URL": url, "no_proxy": "127.0.0.1", **more}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder / "run"), str(folder / "out")], env=env, cwd=folder,
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.matrix
def test_an_export_is_an_artifact_whose_input_is_the_run_s_model(tmp_path: Path) -> None:
    with serving("ok") as server:
        said = track(tmp_path, server.url, WANDB_API_KEY=KEY)
    assert said.startswith("W&B has it as export-ab12: http://127.0.0.1:"), said
    asked = [json.loads(body) for body in server.bodies if body.startswith('{"query"')]
    run = next(one["variables"] for one in asked if one.get("operationName") == "UpsertBucket")
    assert (run["project"], run["entity"], run["jobType"]) == ("fulgurite", "me", "export")
    assert run["name"] != "ab12"  # the training run is not opened again
    made = [one["variables"]["input"] for one in asked if one.get("operationName") == "CreateArtifact"]
    assert made[-1]["artifactCollectionName"] == "export-ab12"
    assert {alias["alias"] for alias in made[-1]["aliases"]} == {"latest", "out"}
    assert any(one.get("operationName") == "UseArtifact" for one in asked)


def test_without_a_server_or_a_key_the_folder_is_complete(tmp_path: Path) -> None:
    assert "warning: W&B does not have the export (no API key for" in track(tmp_path / "one", "http://127.0.0.1:1")
    away = track(tmp_path / "two", closed_port(), WANDB_API_KEY=KEY)
    assert "warning: W&B does not have the export (" in away
    assert (tmp_path / "two" / "out" / "config.json").read_text() == "{}"


def test_a_run_that_was_not_online_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 1")
    assert main(["export", f"run={run}", f"out={tmp_path / 'out'}", "track=true"]) == 2
    assert "was not; leave it out." in capsys.readouterr().err
