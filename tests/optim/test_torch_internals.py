"""What the package uses of torch's optimizers beyond their documentation is there, and does what it is used for."""

from __future__ import annotations

import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from fulgurite.optim import torch_internals as internals


def test_a_fused_optimizer_declares_that_it_unscales() -> None:
    fused = AdamW([torch.nn.Parameter(torch.ones(2))], fused=True)
    assert getattr(fused, internals.UNSCALES) is True
    assert getattr(internals.unscale_outside(fused), internals.UNSCALES) is False


def test_the_last_rates_are_those_that_were_set() -> None:
    scheduler = LambdaLR(SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5), lambda step: 1.0)
    assert scheduler.get_last_lr() == [0.5]
    internals.set_last_lrs(scheduler, [0.25])
    assert scheduler.get_last_lr() == [0.25]
