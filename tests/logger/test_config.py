"""Trackers: a run may have several, each with parameters of its own, and csv reads only metrics.jsonl."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.logger.config import Csv, Logger, MLflow, TensorBoard, Trackio, Wandb


def test_several_trackers_each_keep_their_parameters() -> None:
    run = compose(["logger=[wandb,csv]", "logger.wandb.project=mine"]).run
    assert sorted(run.logger) == ["csv", "wandb"]
    assert run.logger["wandb"].project == "mine"
    assert compose(["logger=none"]).run.logger == {}


def test_every_tracker_is_one_of_several_and_only_csv_takes_no_metrics() -> None:
    trackers = list_options("logger")
    assert trackers == {
        "wandb": Wandb, "tensorboard": TensorBoard, "csv": Csv, "mlflow": MLflow, "trackio": Trackio,
    }
    assert all(issubclass(cls, Logger) and cls.several for cls in trackers.values())
    assert [name for name, cls in trackers.items() if not cls.takes_metrics] == ["csv"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("inside", "outside"), [("60", "61"), ("0.1", "0")])
def test_the_wait_for_a_server_is_bounded(inside: str, outside: str) -> None:
    assert compose(["logger=wandb", f"logger.wandb.wait={inside}"]).run.logger["wandb"].wait == float(inside)
    with pytest.raises(ConfigError, match=r"logger\.wandb\.wait=.* is not allowed"):
        compose(["logger=wandb", f"logger.wandb.wait={outside}"])


@pytest.mark.parametrize("given", ["a/b", "a:b", "it's", " a", "a?"])
def test_an_id_that_wandb_refuses_is_refused_before_it_starts(given: str) -> None:
    wandb = pytest.importorskip("wandb")
    run = compose(["logger=wandb"]).run
    assert "is not an id of W&B" in str(Wandb(id=given).find_refusal(run))
    with pytest.raises(wandb.errors.UsageError):
        wandb.Settings(run_id=given)
    assert Wandb(id="a-b_c.d").find_refusal(run) is None
    assert wandb.Settings(run_id="a-b_c.d").run_id == "a-b_c.d"
