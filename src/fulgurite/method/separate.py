"""Whether a run's adapter can be exported apart from its base. No torch: `plan` asks it too."""

from __future__ import annotations

from fulgurite.config.run import RunConfig
from fulgurite.method.config import AdapterMode, Init, Lora


def base_changed(run: RunConfig) -> str | None:
    """Why the adapter of a run cannot be exported without its base, as the end of a sentence; None if it can."""
    method = run.method
    changed = "trains weights of the model itself" if not method.adapter else ""
    if isinstance(method, Lora) and method.init in (Init.pissa, Init.olora):
        changed = f"began with method.init={method.init}, which takes the adapter's beginning out of the base"
    if isinstance(method, Lora) and method.adapter_path and method.adapter_mode is AdapterMode.stack:
        changed = "stands on another adapter, which is part of the base now"
    if run.model.add_tokens:
        changed = "added tokens, for which a plain base has no room"
    return changed or None
