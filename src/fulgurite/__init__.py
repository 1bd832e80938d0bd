"""Fulgurite: fine-tuning in which every parameter explains itself.

`fulgurite.experiment("stage=dpo", "optim.lr=5e-6")` is the run that the same words of the command line name.
"""

import importlib
from typing import Any

from fulgurite.errors import ConfigError, FulguriteError, Interrupted, RequestError, TrainingFailed

__version__ = "0.1.0"
__all__ = [
    "ConfigError", "Experiment", "FulguriteError", "Interrupted", "RequestError", "TrainingFailed", "__version__",
    "experiment",
]


def __getattr__(name: str) -> Any:
    """Imports torch and Lightning when `experiment` is first used. Types for editors are in `__init__.pyi`."""
    if name in ("Experiment", "experiment"):
        return getattr(importlib.import_module("fulgurite.train.experiment"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
