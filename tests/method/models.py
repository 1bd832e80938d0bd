"""Small models with each method on them, and what they compute and train."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import build
from fulgurite.model.load import Loaded
from fulgurite.model.quiet import silence
from fulgurite.model.twin import shrink_sizes
from fulgurite.precision.policy import Dtypes
from fulgurite.precision.policy import build as settle
from fulgurite.run.load import apply_method

IDS = torch.arange(3, 63).reshape(2, 30)
FP32 = Dtypes("fp32", "32-true", torch.float32, torch.float32, torch.float32, "")
BF16 = Dtypes("bf16", "bf16-mixed", torch.bfloat16, torch.float32, torch.bfloat16, "")
"""Compute types: of the second, frozen weights are bf16 and trained ones float32."""
METHODS: dict[str, tuple[str, ...]] = {
    "full": (), "freeze": ("method.trainable=last:1", "method.extra_trainable=[norms]"),
    "layerwise": ('method.rules=["last:1 full","rest lora rank=4"]',),
    "lora": (), "qlora": (), "oft": ("method.block=16",), "ia3": (), "vera": (), "llama_pro": ("method.blocks=1",),
    "rslora": (), "dora": (), "pissa": (), "lora_plus": (),
}
"""Every option and preset, with what the two layers of the tiny model need."""
RATES = {"full": 1e-2, "llama_pro": 3e-2, "ia3": 0.1, "vera": 0.1, "oft": 2e-2, "pissa": 5e-3}
"""Learning rates of the tiny model, other than 1e-2."""
UNFREEZE = (
    "method=layerwise", 'method.rules=["all full"]', "method.unfreeze_every=2", "optim.lr=1e-2", "scheduler=constant",
)
"""Options of a run whose layers thaw from the top, one every two steps."""


@functools.cache
def compose_run(*words: str) -> RunConfig:
    """The composed run; kept, because composing takes longer than building the tiny model."""
    return compose(list(words)).run


def build_adapted(method: str, *words: str, precision: str = "fp32") -> Any:
    """The model of a method, before any step."""
    words = "model=tiny", f"method={method}", f"precision={precision}", *METHODS.get(method, ()), *words
    run = compose_run(*words)
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(4)
    stored = dtypes.trained if run.method.loads_trained else dtypes.frozen
    return build(run.method, build(run.model, stored).model, dtypes).eval()


def build_base() -> Any:
    """The tiny model without any method."""
    return build(compose_run("model=tiny").model, torch.float32).model.eval()


@torch.no_grad()
def compute_logits(model: Any) -> torch.Tensor:
    """The logits of two fixed rows."""
    found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def find_trained(model: Any) -> set[str]:
    """The names of the parameters that are trained."""
    return {name for name, p in model.named_parameters() if p.requires_grad}


def scramble(model: Any, layer: str) -> tuple[Any, torch.Tensor]:
    """A layer whose trained parameters are random, and inputs for it."""
    found = model.get_submodule(f"base_model.model.model.layers.0.{layer}")
    generator = torch.Generator().manual_seed(6)
    for parameter in found.parameters():
        if parameter.requires_grad:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return found, torch.randn(5, found.in_features, generator=generator)


def build_architecture(kind: str) -> Any:
    """A small model of one of transformers' architectures."""
    torch.manual_seed(0)
    with silence():
        shape = shrink_sizes(AutoConfig.for_model(kind))
        return AutoModelForCausalLM.from_config(shape, dtype=torch.float32, attn_implementation="eager")


def adapt_architecture(kind: str, *words: str) -> Any:
    """A small model of an architecture under LoRA."""
    run = compose_run("logger=none", "method=lora", "method.rank=4", "precision=fp32", *words)
    loaded = Loaded(build_architecture(kind), None, 64)  # type: ignore[arg-type]
    return apply_method(run.method, run.stage.gives_rewards, loaded, settle(run.precision, "cpu"))


def stored_bytes(weight: Any) -> int:
    """Bytes of every tensor of a bitsandbytes weight."""
    state = weight.quant_state
    tensors = [weight.data, state.absmax, state.code]
    if state.nested:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum(tensor.nbytes for tensor in tensors)
