"""NEFTune: noise on the embeddings while training (Jain et al., https://arxiv.org/abs/2310.05914)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def add_noise(embedded_BTD: Tensor, alpha: float) -> Tensor:
    """Adds uniform noise of at most alpha / sqrt(T x D) to the embeddings, drawn from torch's own generator."""
    bound = alpha / (embedded_BTD.shape[1] * embedded_BTD.shape[2]) ** 0.5
    return embedded_BTD + torch.empty_like(embedded_BTD).uniform_(-bound, bound)


def add_noise_hook(embedding: nn.Module, alpha: float) -> None:
    """Adds noise to the module's outputs if it is in training mode."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return add_noise(output, alpha) if module.training else output

    embedding.register_forward_hook(hook)
