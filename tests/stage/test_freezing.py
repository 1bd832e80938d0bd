"""Parameters that rest for a step have no gradient in it, and learn again afterwards."""

from __future__ import annotations

import pytest
import torch

from fulgurite.stage.freezing import freeze_temporarily


def network() -> torch.nn.Sequential:
    """Three layers, of which the first is never trained."""
    torch.manual_seed(0)
    made = torch.nn.Sequential(*(torch.nn.Linear(3, 3, bias=False) for _ in range(3)))
    made[0].requires_grad_(False)
    return made


def gradients(model: torch.nn.Module) -> list[torch.Tensor | None]:
    return [p.grad for p in model.parameters()]


def test_resting_parameters_get_no_gradient_and_the_others_the_same() -> None:
    model, x = network(), torch.ones(2, 3)
    model(x).square().sum().backward()
    whole = gradients(model)
    model.zero_grad()
    with freeze_temporarily(model[1].parameters()):
        model(x).square().sum().backward()
    none, rested, other = gradients(model)
    assert none is rested is None
    assert whole[2] is not None
    torch.testing.assert_close(other, whole[2], rtol=0, atol=0)


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_only_what_was_trained_before_learns_again(fails: bool) -> None:
    model = network()
    try:
        with freeze_temporarily(model.parameters()):
            assert not any(p.requires_grad for p in model.parameters())
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert [p.requires_grad for p in model.parameters()] == [False, True, True]
