"""Reads from a run's config, stage and examples what the rules need to know before its first step."""

from __future__ import annotations

from typing import Any

import numpy as np

from fulgurite.data.dataset import AnyRows
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.model.reward_head import get_head
from fulgurite.monitor.history import About
from fulgurite.optim.default_lrs import usual
from fulgurite.precision.config import Rounding


def build_about(total: int, module: Any, rows: AnyRows) -> About:
    """Reads the numbers from the stage of a run whose empty parameters are filled."""
    run, stage = module.run, module.run.stage
    span = usual(run)
    found = About(
        stage.name,
        str(getattr(stage, "loss", "")),
        hasattr(module.model, "peft_config"),
        run.optim.lr or 0.0,
        getattr(run.scheduler, "warmup_steps", 0) or 0,
        total,
        run.trainer.global_batch_size,
        run.trainer.max_grad_norm or 0.0,
        run.private,
        module.model.get_input_embeddings().weight.shape[0],
        lowest_lr=span.low or 0.0,
        highest_lr=span.high or 1.0,
        exact=str(module.dtypes.compute) == "torch.float32",
        nearest=module.dtypes.rounding is Rounding.nearest,
        alone=run.optim.alone,
        multiplied=getattr(run.method, "loraplus_lr_ratio", 1.0) > 1,
        rollout_steps=stage.count_steps_per_rollout(),
        max_new_tokens=getattr(stage, "max_new_tokens", 0),
    )
    if found.pairs:
        found.beta = stage.get_factor()
        found.paired = module.refers and not module.averaged and found.beta > 0
    if stage.gives_rewards:
        found.new_head = not bool(get_head(module.model).weight.any())
    if isinstance(rows, PreferenceDataset):
        found.margins = any(rows.margin(i) != 0 for i in range(len(rows)))
    if stage.speaks and not stage.rolls_out and not stage.reads.running_text and not rows.packed:
        found.answer_tokens = int(np.percentile(rows.label_counts, 90)) // stage.sides
    return found
