"""What a callback of a run can be built from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lightning.pytorch import Callback, LightningModule

from fulgurite.config.run import RunConfig
from fulgurite.data.dataset import AnyRows
from fulgurite.data.source import Source
from fulgurite.data.template import Template
from fulgurite.model.load import Loaded


@dataclass(slots=True)
class CallbackContext:
    """A run that is about to train: the first argument after the option of what `CallbackOption.builds` names."""

    run: RunConfig
    folder: Path
    """The run's folder."""
    total_steps: int
    """Optimizer steps of the whole run."""
    module: LightningModule
    """The stage over the model."""
    loaded: Loaded
    """The tokenizer, and the longest sequence that the model takes."""
    template: Template
    source: Source
    rows: AnyRows
    """Training examples."""
    val: AnyRows | None
    """Validation examples."""
    built: dict[str, Callback] = field(default_factory=dict)
    """The callbacks with an order that were built before, by the name of their option."""
