"""torch's Muon for the matrices inside the model and torch's fused AdamW for the rest, as one optimizer."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from fulgurite.errors import ConfigError
from fulgurite.optim import config as c
from fulgurite.optim.multi_optimizer import MultiOptimizer
from fulgurite.optim.param_groups import build_groups, find_hidden_matrices, get_trained_parameters
from fulgurite.optim.torch_internals import unscale_outside


def build(config: c.Muon, module: nn.Module) -> Optimizer:
    """Builds the optimizer over the module's trained parameters. Raises ConfigError if none of them is a matrix inside
    the model."""
    hidden, trained, lr = find_hidden_matrices(module), get_trained_parameters(module), config.lr or 0.0
    # Muon orthogonalises an update, which is meant for maps between hidden states; embeddings and norms are not such
    # maps.
    matrices = build_groups(module, config, [p for p in trained if id(p) in hidden], lr)
    rest = build_groups(module, config, [p for p in trained if id(p) not in hidden], config.adam_lr or lr)
    if not matrices:
        raise ConfigError(
            "optim=muon found no trained matrix inside the model, and it updates only these; use optim=adamw."
        )
    # match_rms_adamw scales an update to the size of AdamW's, so that rates of AdamW can be used.
    fit = "match_rms_adamw" if config.scale is c.MuonScale.rms else "original"
    parts: list[Optimizer] = [Muon(matrices, lr=lr, momentum=config.momentum, ns_steps=config.ns_steps,
        adjust_lr_fn=fit)]
    if rest:
        first, second = config.betas
        parts.append(unscale_outside(AdamW(rest, lr=lr, betas=(first, second), eps=config.eps, fused=True)))
    return MultiOptimizer(parts)
