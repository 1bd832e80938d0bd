"""The chunked loss against torch's cross-entropy and against arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fulgurite.loss.language import log_probs, log_probs_of_logits, nll, nll_of_logits, sum_by_row


def problem(n: int = 13, v: int = 29, d: int = 8, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(n, d, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(v, d, generator=generator, dtype=dtype).requires_grad_()
    bias = torch.randn(v, generator=generator, dtype=dtype).requires_grad_()
    return hidden, weight, bias, torch.randint(0, v, (n,), generator=generator)


def test_by_hand() -> None:
    # hidden (1, 0) with weights (ln 1, ln 2, ln 5) on its first axis: logits ln 1, ln 2, ln 5, so p = 1/8, 2/8, 5/8.
    weight = torch.tensor([[math.log(w), 0.0] for w in (1.0, 2.0, 5.0)])
    hidden, targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 2])
    expected = -math.log(2 / 8) - math.log(5 / 8)
    assert float(nll(hidden, weight, targets)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 13, 500])
@pytest.mark.parametrize("with_bias", [False, True])
def test_value_and_gradients_equal_whole_cross_entropy(chunk: int, with_bias: bool) -> None:
    hidden, weight, bias, targets = problem(dtype=torch.float32)
    wanted = [hidden, weight, bias] if with_bias else [hidden, weight]
    ours = nll(hidden, weight, targets, bias_V=bias if with_bias else None, chunk=chunk)
    theirs = functional.cross_entropy(
        functional.linear(hidden, weight, bias if with_bias else None), targets, reduction="sum"
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)
    for a, b in zip(torch.autograd.grad(ours * 0.3, wanted), torch.autograd.grad(theirs * 0.3, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_frozen_head_gets_no_gradient_and_the_states_do() -> None:
    hidden, weight, _, targets = problem(dtype=torch.float32)
    nll(hidden, weight.detach(), targets).backward()
    assert weight.grad is None
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0


def test_no_positions_give_zero_with_a_gradient() -> None:
    hidden = torch.zeros(0, 4, requires_grad=True)
    loss = nll(hidden, torch.zeros(7, 4), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_under_autocast_it_computes_in_bf16_and_sums_in_fp32() -> None:
    hidden, weight, _, targets = problem(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = nll(hidden, weight, targets, chunk=5)
    theirs = functional.cross_entropy((hidden.bfloat16() @ weight.bfloat16().T).float(), targets, reduction="sum")
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    ours.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32


def test_memory_is_a_chunk_of_logits_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    empty = torch.empty

    def watched(*shape: int, **more: object) -> torch.Tensor:
        made = empty(*shape, **more)  # type: ignore[call-overload]
        sizes.append(made.numel())
        return made  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "empty", watched)
    nll(torch.randn(1000, 4, requires_grad=True), torch.randn(5000, 4), torch.zeros(1000, dtype=torch.long), chunk=10)
    assert max(sizes) == 10 * 5000


def test_logits_that_a_model_made_itself_give_the_same_sum() -> None:
    hidden, weight, _, targets = problem(dtype=torch.float32)
    torch.testing.assert_close(
        nll_of_logits(hidden @ weight.T, targets), nll(hidden, weight, targets), rtol=1e-6, atol=1e-5
    )


def test_dft_by_hand() -> None:
    # As above p = 1/8, 2/8, 5/8: each token's loss times its own probability.
    weight = torch.tensor([[math.log(w), 0.0] for w in (1.0, 2.0, 5.0)])
    hidden, targets = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([1, 2])
    expected = -2 / 8 * math.log(2 / 8) - 5 / 8 * math.log(5 / 8)
    assert float(nll(hidden, weight, targets, dft=True)) == pytest.approx(expected, rel=1e-6)
    assert float(nll_of_logits(hidden @ weight.T, targets, dft=True)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("chunk", [4, 500])
def test_dft_lets_no_gradient_through_the_probability(chunk: int) -> None:
    hidden, weight, bias, targets = problem(dtype=torch.float32)
    ours = nll(hidden, weight, targets, bias_V=bias, chunk=chunk, dft=True)
    log_p = functional.log_softmax(functional.linear(hidden, weight, bias), -1).gather(1, targets[:, None])
    theirs = -(log_p.exp().detach() * log_p).sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    wanted = [hidden, weight, bias]
    for a, b in zip(torch.autograd.grad(ours, wanted), torch.autograd.grad(theirs, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 500])
@pytest.mark.parametrize("with_bias", [False, True])
def test_log_probs_and_their_gradients_under_any_weights_equal_plain_torchs(chunk: int, with_bias: bool) -> None:
    hidden, weight, bias, targets = problem(dtype=torch.float32)
    weights = torch.linspace(-1, 2, len(targets))
    wanted = [hidden, weight, bias] if with_bias else [hidden, weight]
    ours = log_probs(hidden, weight, targets, bias_V=bias if with_bias else None, chunk=chunk)
    logits = functional.linear(hidden, weight, bias if with_bias else None)
    theirs = functional.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(log_probs_of_logits(logits, targets), theirs, rtol=1e-6, atol=1e-6)
    mine, plain = (torch.autograd.grad((weights * x.exp()).sum(), wanted) for x in (ours, theirs))
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_log_probs_of_no_positions_and_a_frozen_head() -> None:
    hidden, weight, _, targets = problem(dtype=torch.float32)
    assert log_probs(hidden[:0], weight, targets[:0]).shape == (0,)
    log_probs(hidden, weight.detach(), targets).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_sums_by_hand() -> None:
    # two labels in the first row, none in the second, one in the third
    assert sum_by_row(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0, 0, 2]), 3).tolist() == [3.0, 0.0, 5.0]
