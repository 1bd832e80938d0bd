"""Finds the transformers model inside a method's wrapper. No torch."""

from __future__ import annotations

from typing import Any


def unwrap_model(model: Any) -> Any:
    """Returns the transformers model inside peft's wrapper, with the adapter's layers; a plain model is returned as it
    is.
    """
    return model.get_base_model() if hasattr(model, "get_base_model") else model
