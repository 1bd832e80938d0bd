"""Which weights are trained."""

from fulgurite.method.config.base import Method
from fulgurite.method.config.full import Freeze, Full, Layerwise, Part
from fulgurite.method.config.lora import (
    Adapter,
    AdapterMode,
    Ia3,
    Init,
    LlamaPro,
    Lora,
    Oft,
    Qlora,
    Quant,
    Variant,
    Vera,
)

__all__ = [
    "Adapter", "AdapterMode", "Freeze", "Full", "Ia3", "Init", "Layerwise", "LlamaPro", "Lora",
    "Method", "Oft", "Part", "Qlora", "Quant", "Variant", "Vera",
]
