"""Derives the rank of an adapter, and its alpha from the rank. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fulgurite.config.confidence import Sure
from fulgurite.config.schema import Derived, Range
from fulgurite.files.json import read_object
from fulgurite.language.message import message

if TYPE_CHECKING:
    from fulgurite.config.facts import Facts
    from fulgurite.config.run import RunConfig

WIDE = Range(0.05, 0.5)
"""Billions of parameters: sizes about the 0.135 at which 64 was ahead of 16; matrices of smaller models are hardly
wider than that."""


def recommend(run: RunConfig, facts: Facts) -> Derived:
    """Returns the rank if `method.rank` is empty, with its reason."""
    there = run.method.adapter_path
    if there and run.method.adapter_mode == "go_on" and (known := _of_adapter(Path(there).expanduser())):
        return Derived(known, message("the rank of the adapter in {folder}", folder=there))
    size = run.model.billions()
    if run.stage.next_token and size is not None and WIDE.has(size):
        reason = message(
            "{stage} on a model of {size:.3g}M parameters: measured at 135M, better than 16 on five of five data sets "
            "after 30 steps, on four after 90 (docs/advice.md)",
            stage=run.stage.name, size=1000 * size,
        )
        return Derived(64, reason, Sure.measured)
    return Derived(16, message("between PEFT's and LLaMA-Factory's 8 and QLoRA's 64 (verified)"), Sure.verified)


def recommend_alpha(run: RunConfig, facts: Facts) -> Derived:
    """Returns the alpha if `method.alpha` is empty, with its reason: the scale of the update is 2, in rsLoRA too."""
    rank = run.method.rank
    if str(getattr(run.method, "variant", "")) == "rslora":
        return Derived(round(2 * rank**0.5, 4), message(
            "twice the root of the rank of {rank}: rsLoRA divides by the root, and the scale stays 2 as in LoRA",
            rank=rank,
        ))
    return Derived(2.0 * rank, message(
        "twice the rank of {rank}, so that the scale stays 2 when the rank changes", rank=rank
    ))


def list_usual_alpha(run: RunConfig) -> Range:
    """Returns the usual alpha: a scale of 2 at ranks of 4 to 64, under rsLoRA at ranks of 4 to 256."""
    return Range(4, 32) if str(getattr(run.method, "variant", "")) == "rslora" else Range(8, 128)


def _of_adapter(folder: Path) -> int | None:
    """Returns the rank in an adapter's folder, or None; loading reports what is wrong with a folder."""
    try:
        known = read_object(folder / "adapter_config.json").get("r")
    except (OSError, ValueError):
        return None
    return known if isinstance(known, int) and not isinstance(known, bool) and known > 0 else None
