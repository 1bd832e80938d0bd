"""Optimizers: how gradients become updates of the weights."""

from fulgurite.optim.config.base import Decay, Optim, without_adapters
from fulgurite.optim.config.elementwise import Adafactor, AdamW, AdamW8bit, Lion, PagedAdamW8bit, Sgd
from fulgurite.optim.config.structured import (
    AdamMini,
    Apollo,
    Badam,
    Galore,
    Muon,
    MuonScale,
    Projected,
    ScheduleFree,
)

__all__ = [
    "Adafactor",
    "AdamMini",
    "AdamW",
    "AdamW8bit",
    "Apollo",
    "Badam",
    "Decay",
    "Galore",
    "Lion",
    "Muon",
    "MuonScale",
    "Optim",
    "PagedAdamW8bit",
    "Projected",
    "ScheduleFree",
    "Sgd",
    "without_adapters",
]
