"""Turns a compute type into dtypes and the name of Lightning's plugin, or refuses it with the reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fulgurite.errors import ConfigError
from fulgurite.language.message import UserMessage, message
from fulgurite.precision import config as c


@dataclass(frozen=True, slots=True)
class Dtypes:
    """The compute type of a run: Lightning's name for it, the dtypes of weights, and why it was chosen."""

    option: str
    lightning: str
    frozen: torch.dtype
    trained: torch.dtype
    compute: torch.dtype
    reason: str | UserMessage
    rounding: c.Rounding | None = None
    """How updates are rounded if trained weights are stored in bf16, else None."""
    plain_base: bool = False
    """Whether to load a base that training quantises as ordinary numbers: for an export."""

    @property
    def mixed(self) -> bool:
        """Whether products run in `compute` under autocast, because the trained weights have another dtype."""
        return self.lightning.endswith("mixed")

    def autocast(self, device: str) -> torch.autocast:
        """Returns the autocast of a training step on a device type ("cpu" or "cuda"), for passes outside Lightning's
        steps."""
        return torch.autocast(device, self.compute, enabled=self.mixed)


def build(config: c.Precision, device: str) -> Dtypes:
    """Returns the compute type on `device` ("cpu" or "cuda"). Raises ConfigError for fp16 on a CPU and for bf16 on a
    GPU that has none."""
    chosen, reason = _choose(device) if config.chosen_by_device else (type(config), message("as given"))
    if chosen is c.Fp16 and device == "cpu":
        raise ConfigError(
            "precision=fp16 needs a GPU: on a CPU, Lightning would run bf16 without a word; use precision=bf16 or fp32."
        )
    if (
        chosen in (c.Bf16, c.PureBf16)
        and device == "cuda"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ConfigError(
            "precision={precision}: this GPU has no bf16; use precision=auto, which is fp16 with a loss scaler here.",
            precision=chosen.name,
        )
    frozen, trained, compute = (getattr(torch, n) for n in (chosen.frozen, chosen.trained, chosen.compute))
    rounding = config.step_rounding()
    return Dtypes(chosen.name, chosen.lightning, frozen, trained, compute, reason, rounding)


def _choose(device: str) -> tuple[type[c.Precision], UserMessage]:
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return c.Bf16, message("this GPU multiplies bf16 natively")
        return c.Fp16, message("this GPU has no bf16: fp16 with a loss scaler")
    if cpu_multiplies_bf16():
        return c.Bf16, message("this CPU multiplies bf16 natively, about three times as fast as fp32")
    return c.Fp32, message("this CPU has no native bf16, which would be slower than fp32")


def cpu_multiplies_bf16() -> bool:
    """Returns whether the CPU has bf16 matrix instructions (avx512_bf16 or AMX on x86, bf16 on ARM)."""
    # A torch without this function counts as a CPU without bf16.
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
