"""The loss of given examples as the validation of a run computes it, and what follows from it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from fulgurite.data.dataset import AnyRows, TokenDataset
from fulgurite.data.loader import build_val_loader
from fulgurite.evaluate.calibration import CalibrationBin, build_bins, compute_calibration_error
from fulgurite.evaluate.text_bytes import count_target_bytes
from fulgurite.stage.base import StageModule


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The numbers of held-out examples by name; `units` are what the loss is the mean of: label tokens, pairs or judged
    answers. `bins` is empty for a stage without preferences."""

    numbers: dict[str, float]
    units: int
    bins: list[CalibrationBin] = field(default_factory=list)


def measure_held_out(stage: StageModule, rows: AnyRows, tokenizer: Any) -> HeldOut:
    """Computes the loss of the rows in evaluation mode, with the batches, compute type and arithmetic of the run's
    validation; then what follows from the kind of the stage.

    Of language stages perplexity and bits per byte, of preference stages their own metrics and the calibration.
    """
    loss, units, metrics, log_odds = _compute(stage, rows)
    numbers = {"loss": loss, **metrics}
    if stage.stage.next_token and isinstance(rows, TokenDataset):
        numbers |= compute_language_numbers(loss, units, count_target_bytes(rows, tokenizer))
    bins = build_bins(log_odds)
    if bins:
        numbers.setdefault("accuracy", sum(value > 0 for value in log_odds) / len(log_odds))
        numbers["calibration_error"] = compute_calibration_error(bins)
    return HeldOut(numbers, units, bins)


def compute_language_numbers(loss: float, tokens: int, text_bytes: int) -> dict[str, float]:
    """Returns the perplexity of a token, exp(loss), and the bits per byte, loss / (ln 2 * bytes a token).

    `loss` is the mean in nats over `tokens`. A perplexity that no float holds is left out, as are the bits of tokens
    without text.
    """
    # exp overflows a float64 beyond 709.
    found = {"perplexity": math.exp(loss)} if loss < 700 else {}
    if text_bytes:
        found["bits_per_byte"] = loss / (math.log(2) * (text_bytes / tokens))
    return found


def _compute(stage: StageModule, rows: AnyRows) -> tuple[float, int, dict[str, float], list[float]]:
    """Returns the mean loss, its units, the stage's metrics, and the log-odds of the right label of each example."""
    log_odds: list[float] = []
    sums = torch.zeros(2, dtype=torch.float64, device=stage.device)
    before, stage.observe = stage.observe, lambda values_B: log_odds.extend(values_B.double().tolist())
    try:
        with keep_random_state(stage.device), evaluation_mode(stage), stage.inference_context():
            stage.reduce_metrics()  # forgets what was added before
            for batch in build_val_loader(rows, stage.validation_batch_size, ahead=stage.ahead):
                batch = stage.transfer_batch_to_device(batch, stage.device, 0)
                if "ahead" in batch:
                    stage.on_step_start(batch)
                loss = stage.compute_total_loss(batch)
                # Both sums stay on the device: reading them at each batch would wait for it.
                sums += torch.stack([loss.double(), sums.new_tensor(stage.loss_units(batch))])
            metrics = stage.reduce_metrics()
    finally:
        stage.observe = before
    total, units = sums.tolist()
    return total / max(units, 1), int(units), metrics, log_odds


def keep_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Restores the random state after the block: a loader of torch draws a seed, and training goes on with the next
    number."""
    return torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else [])


@contextlib.contextmanager
def evaluation_mode(stage: StageModule) -> Iterator[None]:
    """Sets evaluation mode inside the block; afterwards each module has its own mode again."""
    # train() on the whole would also switch modules that were in evaluation mode before.
    modes = [(module, module.training) for module in stage.modules()]
    stage.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
