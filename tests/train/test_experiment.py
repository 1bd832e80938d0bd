"""The experiment as a library: its pieces, a Trainer of one's own that gives the same losses, and what is refused before step 1."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from tests.end_to_end.runs import losses, rows, tiny_experiment
from tests.numerics.golden import WORDS as STAGE_WORDS
from tests.numerics.golden import write_data

import fulgurite as fg
from fulgurite.config.frozen import FrozenConfigError
from fulgurite.errors import CheckpointError, ConfigError, RequestError

STEPS = 4
VAL = {"sft": set(), "pt": set(), "rm": {"val/accuracy"}, "dpo": {"val/reward_margin", "val/accuracy"}, "kto": {"val/kl"},
       "grpo": {"val/reward"}, "ppo": {"val/reward"}}
"""What each stage measures in its evaluation, beside val/loss."""


class Losses(L.Callback):
    """A person's own callback: the loss of every optimizer step, as Lightning has it."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.names: set[str] = set()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        if trainer.global_step > len(self.seen):
            self.seen.append(pl_module.step_record["train/loss"])
            self.names |= set(trainer.callback_metrics)


def words_of(stage: str, folder: Path, *more: str) -> list[str]:
    dropout = [] if stage in ("grpo", "ppo") else ["method.dropout=0.1"]  # a policy that is compared with itself has none
    return [
        f"stage={stage}", "data=file", f"data.path={write_data(folder, stage)}", "data.max_samples=40", "data.max_length=128",
        f"trainer.max_steps={STEPS}", f"trainer.eval_every={STEPS}", "optim.lr=3e-3", *dropout, *STAGE_WORDS[stage], *more,
    ]


def stock(folder: Path, experiment: fg.Experiment, **more: Any) -> L.Trainer:
    usual: dict[str, Any] = {
        "max_steps": STEPS, "accumulate_grad_batches": experiment.data.micro_batches_per_step, "default_root_dir": folder,
        "enable_progress_bar": False, "enable_model_summary": False, "logger": False, "log_every_n_steps": 1,
        "accelerator": "cpu", "enable_checkpointing": False,
    }
    return L.Trainer(**usual | more)


def fit(trainer: L.Trainer, experiment: fg.Experiment, **more: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and folders
        trainer.fit(experiment.module, datamodule=experiment.data, **more)


def test_the_import_is_light() -> None:
    code = (
        "import sys, fulgurite as fg; names = dir(fg); "
        "print({'torch', 'lightning', 'transformers', 'numpy', 'hydra', 'omegaconf'} & set(sys.modules) or 'light')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "light\n"
    with pytest.raises(AttributeError, match="no attribute 'experimant'"):
        fg.experimant  # noqa: B018


@pytest.mark.parametrize(("stage", "micro"), [(s, 2) for s in STAGE_WORDS] + [("sft", 4), ("rm", 1), ("dpo", 4), ("kto", 4)])
def test_a_trainer_of_ones_own_gives_the_same_losses(tmp_path: Path, stage: str, micro: int) -> None:
    """With sanity checks, evaluations and loggers as a stock Trainer has them, and numbers drawn in between."""
    words = words_of(stage, tmp_path, f"trainer.micro_batch_size={micro}")
    ours = tiny_experiment(tmp_path / "ours", *words)
    ours.fit()
    theirs, seen = tiny_experiment(tmp_path / "theirs", *words), Losses()
    assert theirs.module is theirs.module
    torch.rand(7)  # a person's own draws change nothing
    trainer = stock(
        tmp_path, theirs, logger=[CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "board")], enable_checkpointing=True,
        callbacks=[ModelCheckpoint(tmp_path / "kept", monitor="val/loss"), LearningRateMonitor(), seen],
        val_check_interval=STEPS * theirs.data.micro_batches_per_step, check_val_every_n_epoch=None,
    )
    fit(trainer, theirs)
    assert seen.seen == losses(tmp_path / "ours")
    assert not (tmp_path / "theirs").exists()  # nothing of ours is written
    expected, [val] = rows(tmp_path / "ours")[0], [row for row in rows(tmp_path / "ours") if "val/loss" in row]
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(val["val/loss"])
    assert set(val) >= VAL[stage]
    logged = list(csv.DictReader((tmp_path / "csv" / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()))
    names = {name for row in logged for name, value in row.items() if value}
    usual = {"train/loss", "train/lr", "train/grad_norm", "train/clipped", "train/tokens_per_second"}
    assert usual <= seen.names
    assert names >= usual | VAL[stage] | {"val/loss"} | {n for n in expected if n.startswith("train/")} - {"train/update_ratio"}
    assert [float(row["train/loss"]) for row in logged if row["train/loss"]] == pytest.approx(losses(tmp_path / "ours"))
    assert any(path.name.startswith("events.out") for path in (tmp_path / "board").rglob("*"))
    assert list((tmp_path / "kept").glob("*.ckpt"))


def test_a_trainer_without_precision_computes_in_the_runs(tmp_path: Path) -> None:
    words = words_of("sft", tmp_path, "precision=bf16", "trainer.micro_batch_size=2")
    ours = tiny_experiment(tmp_path / "ours", *words)
    ours.fit()
    for precision in ({}, {"precision": "bf16-mixed"}):
        theirs, seen = tiny_experiment(tmp_path / "theirs", *words), Losses()
        fit(stock(tmp_path, theirs, callbacks=[seen], limit_val_batches=0, **precision), theirs)
        assert seen.seen == losses(tmp_path / "ours")


def test_a_private_run_draws_and_accounts_the_same(tmp_path: Path) -> None:
    words = [
        *words_of("sft", tmp_path, "trainer.micro_batch_size=2", "method.dropout=0"), "privacy=dp_sgd", "privacy.noise_multiplier=1",
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


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "one micro-batch a step": (
        {"accumulate_grad_batches": 1}, r"accumulate_grad_batches=1 is not allowed: an optimizer step of this run has 2",
    ),
    "another norm": ({"gradient_clip_val": 0.5}, r"gradient_clip_val=0\.5 by norm is not allowed: this run's clipping is 1 by norm"),
    "clipping by value": ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}, r"gradient_clip_val=1 by value is not allowed"),
    "another precision": ({"precision": "bf16-mixed"}, r"precision='bf16-mixed' is not allowed: this run computes with precision=fp32"),
    "overfitting": ({"overfit_batches": 2}, r"overfit_batches is not allowed: .* set data\.max_samples"),
    "a cut step": ({"limit_train_batches": 3}, r"limit_train_batches leaves 3 batches an epoch, which cuts an optimizer step of 2"),
    "one batch": ({"fast_dev_run": 1}, r"limit_train_batches leaves 1 batches"),
    "an evaluation inside a step": (
        {"val_check_interval": 3, "check_val_every_n_epoch": None}, r"val_check_interval=3 evaluates inside an optimizer step of 2",
    ),
    "more steps than the schedule": ({"max_steps": 5}, r"takes 5 optimizer steps, more than the 4 .* L\.Trainer\(max_steps=4\)"),
    "no end": ({"max_steps": -1, "max_epochs": -1}, r"takes inf optimizer steps"),
    "a schedule of accumulation": (
        {"accumulate_grad_batches": 2, "callbacks": [GradientAccumulationScheduler({0: 2})]},
        r"GradientAccumulationScheduler is not allowed",
    ),
    "a distributed sampler": (
        {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 1}, r"use_distributed_sampler=True is not allowed",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_changes_the_mathematics_is_refused_before_the_first_step(tmp_path: Path, two: fg.Experiment, case: str) -> None:
    arguments, sentence = REFUSED[case]
    with pytest.raises(ConfigError, match=sentence) as refused:
        fit(stock(tmp_path, two, **arguments), two)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    assert "\n" not in str(refused.value)
    assert two.module.step_record == {}


def test_batches_of_another_loader_are_refused(tmp_path: Path, two: fg.Experiment) -> None:
    loader = torch.utils.data.DataLoader([{"x": torch.zeros(1)}] * 8)
    trainer = stock(tmp_path, two)
    warnings.simplefilter("ignore")  # pytest puts the filters back
    with pytest.raises(ConfigError, match=r"The training batches are not those of this run"):
        trainer.fit(two.module, loader)


def test_lightnings_own_checkpoint_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    words = words_of("dpo", tmp_path, "trainer.micro_batch_size=2", "method.dropout=0")
    whole, seen = tiny_experiment(tmp_path / "run", *words), Losses()
    saves = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    fit(stock(tmp_path, whole, callbacks=[seen, saves], enable_checkpointing=True, limit_val_batches=0), whole)
    again, rest = tiny_experiment(tmp_path / "run", *words), Losses()
    rest.seen = seen.seen[:2]
    fit(stock(tmp_path, again, callbacks=[rest], limit_val_batches=0), again, ckpt_path=tmp_path / "kept" / "step=2.ckpt")
    assert rest.seen == seen.seen
    for (name, a), b in zip(whole.module.named_parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_checkpoint_inside_a_step_is_not_continued(tmp_path: Path, two: fg.Experiment) -> None:
    with pytest.raises(CheckpointError, match=r"saved after 1 of the 2 micro-batches"):
        two.module.on_load_checkpoint({"fulgurite": {"tokens_seen": 3, "inside_step": 1}})


def test_a_folder_with_a_checkpoint_of_ours_is_continued_by_fit_alone(tmp_path: Path) -> None:
    words = words_of("sft", tmp_path, "trainer.micro_batch_size=2")
    tiny_experiment(tmp_path / "run", *words, "trainer.max_steps=2", "scheduler=constant").fit()
    more = ["resume.allow=[trainer.max_steps]", "scheduler=constant"]
    stocked = tiny_experiment(tmp_path / "run", *words, *more)
    with pytest.raises(ConfigError, match=r"step-2 is a checkpoint of this run, which a Trainer of your own does not continue"):
        fit(stock(tmp_path, stocked), stocked)
    tiny_experiment(tmp_path / "run", *words, *more).fit()
    assert [row["step"] for row in rows(tmp_path / "run") if "train/loss" in row] == [1, 2, 3, 4]


def test_fit_leaves_what_the_command_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fulgurite.cli.main import main

    words = words_of("sft", tmp_path, "trainer.micro_batch_size=2")
    experiment = tiny_experiment(tmp_path / "library", *words)
    experiment.fit()
    same = [word for word in experiment.composed.overrides if not word.startswith("run_dir=")]
    assert main(["train", *same, f"run_dir={tmp_path / 'command'}"]) == 0
    capsys.readouterr()

    def files(name: str) -> set[str]:
        return {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")}

    assert files("library") == files("command")
    assert rows(tmp_path / "library") == rows(tmp_path / "command")
    assert experiment.config.trainer.micro_batch_size == 2
    assert json.loads((tmp_path / "library" / "status.json").read_text())["state"] == "finished"
    with pytest.raises(ConfigError, match="has been trained"):
        experiment.fit()


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


@pytest.mark.parametrize(("words", "sentence"), [
    (["stage=dop"], "stage=dop"), (["optim.lrr=1"], "optim.lrr"), (["data.path"], "data.path"),
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
