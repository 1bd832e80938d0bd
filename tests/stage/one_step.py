"""One optimizer step of the tiny model over five examples, however it is cut."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch.nn import functional

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.precision.policy import build as settle
from fulgurite.stage.base import StageModule
from fulgurite.trainer.build import quiet

LENGTHS = (5, 9, 3, 12, 7)
"""Tokens of the five examples of the step; the third has no label at all."""


def examples(vocabulary: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for n, length in enumerate(LENGTHS):
        ids = torch.randint(3, vocabulary, (length,), generator=generator)
        targets = torch.cat([ids[1:], torch.tensor([-100])])
        targets[: 1 + n % 3] = -100
        if n == 2:
            targets[:] = -100
        made.append((ids, targets))
    return made


def batch_of(rows: list[tuple[torch.Tensor, torch.Tensor]], step_targets: int) -> dict[str, object]:
    longest = max((len(ids) for ids, _ in rows), default=0)
    ids = (
        torch.stack([functional.pad(i, (0, longest - len(i))) for i, _ in rows])
        if rows
        else torch.zeros(0, 0, dtype=torch.long)
    )
    targets = torch.stack([functional.pad(t, (0, longest - len(t)), value=-100) for _, t in rows]) if rows else ids
    return {
        "input_ids": ids, "targets": targets, "step_targets": step_targets, "rows": [],
        "tokens": sum(len(i) for i, _ in rows),
    }


def stage_of(*words: str) -> StageModule:
    run = compose(
        ["model=tiny", "precision=fp32", "optim=sgd", "optim.momentum=0", "scheduler=constant", "optim.lr=1.0", *words]
    ).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(0)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    made: StageModule = build(run.stage, model, run, dtypes, 1)
    return made


def fit(stage: StageModule, batches: list[dict[str, object]], **more: object) -> None:
    quiet()
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, **more,
    )
    trainer.fit(stage, torch.utils.data.DataLoader(batches, batch_size=None))
