"""W&B never in the way: the decision before the start, a server that misbehaves, and no secret in any file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.logger.wandb_server import KEY, closed_port, serving

RUN = Path(__file__).with_name("tracked_run.py")
LINKED = Path(__file__).with_name("linked_run.py")
MATRIX = pytest.mark.matrix
"""A server that answers wrongly and one that is not there: a run goes on alike after either."""
SPARE = 5.0
"""Seconds that a bad server may cost a run, by reliability.md, T27; the tests allow twice that."""
QUIET = 10.0
"""Seconds that the run without a server takes at most on a quiet machine: a loaded one gets as many times more."""


class Child:
    """A run in a process of its own."""

    found: dict[str, Any]

    def __init__(self, folder: Path, url: str | None, *, dies: bool = False, **environment: str) -> None:
        self.folder = folder
        folder.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
        env |= {"HOME": str(folder), "WANDB_CACHE_DIR": str(folder / "cache"), **environment}
        if url is not None:
            env |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY, "no_proxy": "127.0.0.1"}
        self.begin = time.monotonic()
        tracked = url is not None or bool(environment)
        words = [sys.executable, str(RUN), str(folder), *("yes" if flag else "no" for flag in (tracked, dies))]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen(words, env=env, cwd=folder, text=True, **pipes)  # type: ignore[call-overload]

    def wait_for(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def end(self) -> dict[str, Any]:
        out, self.err = self.process.communicate("\n", timeout=120)
        self.seconds = time.monotonic() - self.begin
        assert self.process.returncode == 0, self.err
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found

    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("fulgurite.") and "W&B: http" not in line]

    def files(self, pattern: str) -> list[Path]:
        return [path for path in self.folder.rglob(pattern) if path.is_file() and not path.is_symlink()]

    def rows(self) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "train/tokens_per_second"} for row in rows]

    def holds(self, secret: str) -> list[Path]:
        return [path for path in self.files("*") if secret.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Child:
    """The same run without a tracker."""
    child = Child(tmp_path_factory.mktemp("plain") / "run", None)
    child.found = child.end()
    return child


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("refuse", marks=MATRIX), "swallow", pytest.param("500", marks=MATRIX)])
def test_a_bad_server_changes_nothing_but_the_place_of_the_tracks(tmp_path: Path, plain: Child, kind: str) -> None:
    with serving(kind) as server:
        child = Child(tmp_path / "run", closed_port() if kind == "refuse" else server.url)
        found = child.end()
    assert (found["weights"], found["noise"]) == (plain.found["weights"], plain.found["noise"])
    assert child.rows() == plain.rows()
    assert len(child.warnings()) == 1, child.err
    assert "W&B is offline: " in child.warnings()[0]
    assert f"wandb sync {child.folder}/wandb/offline-run-*" in child.warnings()[0]
    assert len(child.files("offline-run-*/run-*.wandb")) == 1
    assert child.files("offline-run-*/run-*.wandb")[0].stat().st_size > 1000
    assert child.holds(KEY) == []
    assert child.seconds - plain.seconds < 2 * SPARE * max(1.0, plain.seconds / QUIET)


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_costs_little_and_the_tracks_lie_here(tmp_path: Path, plain: Child) -> None:
    with serving("ok") as server:
        child = Child(tmp_path / "run", server.url, dies=True)
        child.wait_for("die")
        online = server.asked
    found = child.end()
    assert online > 2
    assert (found["weights"], found["noise"]) == (plain.found["weights"], plain.found["noise"])
    assert child.rows() == plain.rows()
    assert len(child.warnings()) == 1, child.err
    assert f"wandb sync {child.folder}/wandb/run-*" in child.warnings()[0]
    tracks = child.files("run-*/run-*.wandb")
    assert len(tracks) == 1
    assert b"train/grad_norm" in tracks[0].read_bytes()
    assert child.holds(KEY) == []
    assert child.seconds - plain.seconds < 2 * SPARE * max(1.0, plain.seconds / QUIET)


@pytest.mark.slow
def test_no_secret_and_no_command_line_is_stored(tmp_path: Path) -> None:
    secrets = {"HF_TOKEN": "hf_" + "s" * 30, "AWS_SECRET_ACCESS_KEY": "t" * 40, "WANDB_MODE": "offline"}
    child = Child(tmp_path / "run", closed_port(), **secrets)
    child.end()
    assert child.files("run-*.wandb")
    for secret in (KEY, secrets["HF_TOKEN"], secrets["AWS_SECRET_ACCESS_KEY"]):
        assert child.holds(secret) == []
        assert secret not in child.err
    assert child.holds("tracked_run.py") == []
    assert oct((child.folder / "wandb").stat().st_mode)[-3:] == "700"
    data = child.files("run-*.wandb")[0].read_bytes()
    assert b"optim.lr" in data
    assert b"provenance" in data


@pytest.mark.slow
def test_an_online_run_sends_its_group_commit_inputs_finding_and_best_checkpoint(tmp_path: Path) -> None:
    commit = make_commit(tmp_path)
    with serving("ok") as server:
        env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
        env |= {"HOME": str(tmp_path), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, str(LINKED), str(tmp_path / "run")], env=env, cwd=tmp_path, capture_output=True, text=True,
            timeout=120, check=False,
        )
    assert (done.stdout, done.stderr) == ("works\n", "")
    asked = [json.loads(body) for body in server.bodies if body.startswith('{"query"')]
    sent = {one.get("operationName"): one.get("variables") for one in reversed(asked)}
    run = sent["UpsertBucket"]
    assert (run["name"], run["groupName"], run["jobType"], run["notes"]) == ("mine7", "seeds", "ablation", "Why")
    assert (run["displayName"], run["tags"], run["commit"], run["repo"]) == ("mine", ["a", "b"], commit, None)
    config = json.loads(run["config"])
    assert config["command"]["value"] == "fulgurite train stage=sft 'data.path=[a b]'"
    assert config["inputs"]["value"] == [{"kind": "dataset", "name": "data-guide", "records_sha256": "7"}]
    alert = sent["NotifyScriptableRunAlert"]
    assert (alert["title"], alert["severity"]) == ("norm-high, step 1", "ERROR")
    made = [one["variables"]["input"] for one in asked if one.get("operationName") == "CreateArtifact"]
    assert [(one["artifactCollectionName"], one["artifactTypeName"]) for one in made] == [
        ("data-guide", "dataset"), ("model-r", "model"),  # this server calls every run r
    ]
    assert {alias["alias"] for alias in made[1]["aliases"]} == {"latest", "best", "step-1"}
    used = [one["variables"]["input"]["artifactID"] for one in asked if one.get("operationName") == "UseArtifact"]
    assert used == ["a"]  # the data; the model is what the run made
    assert (tmp_path / "run" / "wandb" / "path").read_text() == "me/fulgurite/r"


def make_commit(folder: Path) -> str:
    """The hash of the one commit of a new repository."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["remote", "add", "origin", "https://me:secret@host/x.git"],
                  ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_an_offline_file_has_what_an_online_run_sends(tmp_path: Path) -> None:
    words = ["logger=wandb", "logger.wandb.mode=offline", "logger.wandb.group=g", "logger.wandb.git_commit=false",
             "logger.wandb.command_line=false", "logger.wandb.checkpoints=all"]
    records = track_offline(tmp_path, words)
    run = records["run"][0]
    assert (run["run_group"], run["job_type"]) == ("g", "train")
    assert "command" not in run["config"]["update"]
    assert "git_commit" not in run["config"]["update"]
    assert "git" not in run
    assert [(a["title"], a["level"]) for a in records["alert"]] == [("norm-high, step 1", "WARN")]
    first, best = [a for a in records["artifact"] if a["type"] == "model"]
    assert first["digest"] == best["digest"]  # the server keeps one version, with all names
    assert [set(a["aliases"]) for a in (first, best)] == [{"step-1", "latest"}, {"step-1", "best", "latest"}]
    paths = {entry["path"] for entry in first["manifest"]["contents"]}
    assert paths == {"config.yaml", "checkpoints/step-1/weights.safetensors"}
    (drawn,) = [h["item"] for h in records["history"] if "gradients/w.bins" in h["item"]]
    assert (drawn["gradients/w.bins"], drawn["gradients/w.values"]) == ([-1, 0, 1], [2, 3])
    assert drawn["trainer/global_step"] == 1


def track_offline(folder: Path, words: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Tracks a step and a checkpoint offline; returns what wandb's own reader finds in the file, by kind."""
    from fulgurite.config.compose import compose
    from fulgurite.logger.tracked_run import TrackedRun
    from fulgurite.logger.wandb import build

    checkpoint = folder / "checkpoints" / "step-1"
    checkpoint.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 1\n")
    (checkpoint / "weights.safetensors").write_text("w")
    tracker = build(compose(words).run.logger["wandb"], TrackedRun(folder, words=("stage=sft",)))
    tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.log_histograms({"gradients/w": ([2.0, 3.0], [-1.0, 0.0, 1.0])}, 1)
    tracker.alert("norm-high", "warning", "The norm is high.", 1)
    for kind in ("all", "last", "best"):
        tracker.log_checkpoint(checkpoint, 1, kind)
    tracker.finalize("success")
    assert tracker.works
    (file,) = (path for path in folder.rglob("run-*.wandb") if not path.is_symlink())
    command = [sys.executable, "-m", "wandb", "leet", "inspect", str(file), "--json"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[dict[str, Any]]] = {}
    for record in map(json.loads, text.splitlines()):
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found


def test_the_parameter_decides_the_mode_before_a_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.logger import wandb as ours
    from fulgurite.logger.config import WandbMode

    monkeypatch.setattr(ours, "probe_key", lambda *args: pytest.fail("a server is asked"))
    assert ours.decide_mode(1.0, WandbMode.disabled) == ours.ChosenMode("disabled")
    offline = ours.decide_mode(1.0, WandbMode.offline)
    assert (offline.name, str(offline.reason)) == ("offline", "logger.wandb.mode=offline asks for it")


def test_the_mode_of_the_environment_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.logger import wandb as ours

    def never(*args: object) -> str:
        raise AssertionError("no server is asked")

    monkeypatch.setattr(ours, "probe_key", never)
    for word, name in (("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled")):
        monkeypatch.setenv("WANDB_MODE", word)
        assert ours.decide_mode(1.0).name == name


def test_a_folder_that_cannot_be_made_switches_it_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from fulgurite.config.compose import compose
    from fulgurite.logger.tracked_run import TrackedRun
    from fulgurite.logger.wandb import build

    (tmp_path / "wandb").write_text("in the way")
    run = compose(["logger=wandb"]).run
    tracker = build(run.logger["wandb"], TrackedRun(tmp_path))
    tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.finalize("success")
    assert not tracker.works
    assert [r.getMessage() for r in caplog.records if "switched off" in r.getMessage()] == [
        f"logger=wandb failed (FileExistsError: [Errno 17] File exists: '{tmp_path}/wandb') and is switched off; the "
        f"run goes on. metrics.jsonl has every number. To upload the rest: wandb sync {tmp_path}/wandb/run-*"
    ]
