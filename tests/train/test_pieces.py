"""The pieces of a run: each is built once, when it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import losses, tiny_experiment
from tests.train.stock_trainer import Losses, words_of

from fulgurite.config.compose import compose
from fulgurite.config.frozen import FrozenConfigError
from fulgurite.strategy.ranks import Ranks, Starter
from fulgurite.train import pieces as module


def test_a_persons_callback_sees_the_run_of_fit(tmp_path: Path) -> None:
    seen = Losses()
    experiment = tiny_experiment(tmp_path / "run", *words_of("sft", tmp_path), callbacks=[seen])
    experiment.fit()
    assert seen.seen == losses(tmp_path / "run")
    assert {"train/loss", "train/tokens_per_second"} <= seen.names
    assert "train/tokens_per_second" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_plan_prints_and_has_its_findings(tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path / "run", *words_of("sft", tmp_path, "plan.allow=[]"))
    plan = experiment.plan()
    assert str(plan).startswith("run  ")
    assert "MEMORY" in str(plan)
    assert plan.refused == any(finding.refuses for finding in plan.findings)
    assert not (tmp_path / "run").exists()
    assert "assembled" not in vars(experiment)  # no weights
    with pytest.raises(FrozenConfigError):
        experiment.config.seed = 1
    assert plan.to_dict().keys() >= {"troubles"}


def test_each_piece_is_built_once_until_it_is_released(tmp_path: Path) -> None:
    pieces = tiny_experiment(tmp_path / "run", *words_of("sft", tmp_path))
    assert pieces.data.stage is pieces.module is pieces.module
    first, source, gathered = pieces.module, pieces.source, pieces.gathered
    assert "trainer" not in vars(pieces)  # it was not asked for
    pieces.release()
    assert pieces.module is not first
    assert (pieces.source, pieces.gathered) == (source, gathered)  # what holds no weights stays
    for one, other in zip(first.parameters(), pieces.module.parameters(), strict=True):
        assert torch.equal(one, other)  # built anew from the same seed


def test_a_fresh_run_goes_on_from_nothing_and_makes_its_folder_when_asked(tmp_path: Path) -> None:
    pieces = tiny_experiment(tmp_path / "run", *words_of("sft", tmp_path))
    assert (pieces.checkpoint, pieces.module.resumes_from) == (None, None)
    assert not (tmp_path / "run").exists()
    assert pieces.folder == tmp_path / "run"
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize(("given", "nodes", "shared"), [(True, 1, False), (True, 2, True), (False, 1, True)])
def test_the_first_process_names_the_folder_for_all(
    given: bool, nodes: int, shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is the time in a name that nobody gave; our command gives a folder to its own machine's processes alone."""
    told: list[str] = []
    monkeypatch.setattr(module, "share_text", lambda text, ranks, device: told.append(text) or "runs/of-the-first")
    words = [f"trainer.num_nodes={nodes}", "logger=none", *([f"run_dir={tmp_path / 'run'}"] if given else [])]
    run = compose(words).run
    found = module.share_folder(
        run.name, run.run_dir, run.resume.run, run.trainer, Ranks(Starter.launcher, 1, 1, 0, 2, 2)
    )
    assert told == ([""] if shared else [])  # rank 1 has nothing to say
    assert found == (Path("runs/of-the-first") if shared else tmp_path / "run")


def test_a_process_takes_its_own_gpu_before_any_weight_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every process of a machine would fill the first GPU."""
    order: list[str] = []
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "device", lambda trainer: "cuda")
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: order.append(f"cuda:{number}"))

    def load(*_: object) -> None:
        order.append("weights")
        raise InterruptedError

    monkeypatch.setattr(module, "assemble", load)
    experiment = tiny_experiment(tmp_path / "run", "trainer.devices=2")
    with pytest.raises(InterruptedError):
        experiment.fit()
    assert order == ["cuda:1", "weights"]
