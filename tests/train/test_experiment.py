"""The experiment as a library: a Trainer of one's own gives the same losses, and wrong words are refused."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tests.end_to_end.runs import losses, rows, tiny_experiment
from tests.numerics.golden import WORDS as STAGE_WORDS
from tests.train.stock_trainer import STEPS, Losses, fit, stock, words_of

import fulgurite as fg
from fulgurite.errors import CheckpointError, ConfigError, RequestError

VAL = {
    "sft": set(),
    "pt": set(),
    "rm": {"val/accuracy"},
    "dpo": {"val/reward_margin", "val/accuracy"},
    "kto": {"val/kl"},
    "grpo": {"val/reward"},
    "ppo": {"val/reward"},
}
"""What each stage measures in its evaluation, beside val/loss."""


def test_the_import_is_light() -> None:
    code = (
        "import sys, fulgurite as fg; names = dir(fg); "
        "print({'torch', 'lightning', 'transformers', 'numpy', 'hydra', 'omegaconf'} & set(sys.modules) or 'light')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "light\n"
    with pytest.raises(AttributeError, match="no attribute 'experimant'"):
        fg.experimant  # type: ignore[attr-defined]  # noqa: B018


STAGES = [(stage, 2) for stage in STAGE_WORDS] + [("sft", 4), ("rm", 1), ("dpo", 4), ("kto", 4)]


@pytest.mark.parametrize(("stage", "micro"), STAGES)
def test_a_trainer_of_ones_own_gives_the_same_losses(tmp_path: Path, stage: str, micro: int) -> None:
    """With sanity checks, evaluations and loggers as a stock Trainer has them, and numbers drawn in between."""
    words = words_of(stage, tmp_path, f"trainer.micro_batch_size={micro}")
    ours = tiny_experiment(tmp_path / "ours", *words)
    ours.fit()
    theirs, seen = tiny_experiment(tmp_path / "theirs", *words), Losses()
    assert theirs.module is theirs.module
    torch.rand(7)  # a person's own draws change nothing
    trainer = stock(
        tmp_path, theirs, logger=[CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "board")],
        enable_checkpointing=True,
        callbacks=[ModelCheckpoint(tmp_path / "kept", monitor="val/loss"), LearningRateMonitor(), seen],
        val_check_interval=STEPS * theirs.data.micro_batches_per_step, check_val_every_n_epoch=None,
    )
    fit(trainer, theirs)
    assert seen.seen == losses(tmp_path / "ours")
    assert not (tmp_path / "theirs").exists()  # nothing of ours is written
    expected, [val] = rows(tmp_path / "ours")[0], [row for row in rows(tmp_path / "ours") if "val/loss" in row]
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(val["val/loss"])
    assert set(val) >= VAL[stage]
    logged = list(
        csv.DictReader((tmp_path / "csv" / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines())
    )
    names = {name for row in logged for name, value in row.items() if value}
    usual = {"train/loss", "train/lr", "train/grad_norm", "train/clipped", "train/tokens_per_second"}
    assert usual <= seen.names
    assert names >= usual | VAL[stage] | {"val/loss"} | {n for n in expected if n.startswith("train/")} - {
        "train/update_ratio"
    }
    assert [float(row["train/loss"]) for row in logged if row["train/loss"]] == pytest.approx(losses(tmp_path / "ours"))
    assert any(path.name.startswith("events.out") for path in (tmp_path / "board").rglob("*"))
    assert list((tmp_path / "kept").glob("*.ckpt"))


def test_a_private_run_draws_and_accounts_the_same(tmp_path: Path) -> None:
    words = [
        *words_of("sft", tmp_path, "trainer.micro_batch_size=2", "method.dropout=0"), "privacy=dp_sgd",
        "privacy.noise_multiplier=1",
        "privacy.noise_seed=3",
    ]
    ours = tiny_experiment(tmp_path / "ours", *words)
    ours.fit()
    theirs, seen = tiny_experiment(tmp_path / "theirs", *words), Losses()
    fit(stock(tmp_path, theirs, callbacks=[seen], limit_val_batches=0), theirs)
    assert seen.seen == losses(tmp_path / "ours")
    assert theirs.module.mechanism.epsilon() == ours.module.mechanism.epsilon()
    clipped, refused = stock(tmp_path, theirs, gradient_clip_val=1.0), tiny_experiment(tmp_path / "theirs", *words)
    with pytest.raises(ConfigError, match=r"this run's clipping is off"):
        fit(clipped, refused)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> fg.Experiment:
    """A run of two micro-batches a step, which no test here trains."""
    folder = tmp_path_factory.mktemp("two")
    return tiny_experiment(folder / "run", *words_of("sft", folder, "trainer.micro_batch_size=2"))


def test_lightnings_own_checkpoint_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    words = words_of("dpo", tmp_path, "trainer.micro_batch_size=2", "method.dropout=0")
    whole, seen = tiny_experiment(tmp_path / "run", *words), Losses()
    saves = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    fit(stock(tmp_path, whole, callbacks=[seen, saves], enable_checkpointing=True, limit_val_batches=0), whole)
    again, rest = tiny_experiment(tmp_path / "run", *words), Losses()
    rest.seen = seen.seen[:2]
    fit(
        stock(tmp_path, again, callbacks=[rest], limit_val_batches=0),
        again,
        ckpt_path=tmp_path / "kept" / "step=2.ckpt",
    )
    assert rest.seen == seen.seen
    for (name, a), b in zip(whole.module.named_parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_inside_a_step_is_not_continued(tmp_path: Path, two: fg.Experiment) -> None:
    assert two.data.micro_batches_per_step == 2  # the data tell the module
    with pytest.raises(CheckpointError, match=r"saved after 1 of the 2 micro-batches"):
        two.module.on_load_checkpoint({"fulgurite": {"tokens_seen": 3, "inside_step": 1}})


@pytest.mark.parametrize(("words", "sentence"), [
    (["stage=dop"], "stage=dop"), (["optim.lrr=1"], "optim.lrr"), (["optim.lr=abc"], "optim.lr"),
    (["plugins=[no_such_module]"], "no_such_module"),
])
def test_wrong_words_are_refused_in_the_sentence_of_the_command(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from fulgurite.cli.main import main

    with pytest.raises(ConfigError, match=sentence) as refused:
        fg.experiment(*words)
    assert main(["train", *words]) == 2
    assert str(refused.value) in capsys.readouterr().err


def test_a_search_is_no_single_run() -> None:
    with pytest.raises(RequestError, match="A search is several runs"):
        fg.experiment("model=tiny", "+sweep=sft_lora").fit()
