"""transformers' own model, whatever a method has put over it. No torch."""

from __future__ import annotations

from typing import Any


def unwrap_model(model: Any) -> Any:
    """The transformers model under peft's wrapper, with the adapter's layers still in it; a plain model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
