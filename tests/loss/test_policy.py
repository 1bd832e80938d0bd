"""PPO's and GRPO's mathematics: the papers' formulas by hand, and TRL's GRPO loss where it can be called.

TRL 1.16 has no PPO any more, so that PPO's part is held against the papers alone.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fulgurite.loss import policy as p

MASK = torch.tensor([[0.0, 1, 1, 1], [1, 1, 0, 0]])


def test_log_probs_and_entropy_are_those_of_whole_logits_in_value_and_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 6, generator=generator, dtype=torch.float64, requires_grad=True) for n in (7, 11))
    bias = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.arange(7)
    found, entropy = p.log_probs(hidden, weight, targets, bias_V=bias, temperature=0.7, chunk=3)
    whole = torch.log_softmax((hidden @ weight.T + bias).float() / 0.7, -1)
    torch.testing.assert_close(found, whole[range(7), targets])
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=whole).entropy().detach())
    assert not entropy.requires_grad
    mine = torch.autograd.grad(found.sum(), [hidden, weight, bias])
    for ours, plain in zip(
        mine, torch.autograd.grad(whole[range(7), targets].sum(), [hidden, weight, bias]), strict=True
    ):
        torch.testing.assert_close(ours, plain)
    empty, none = p.log_probs(hidden[:0], weight, targets[:0])
    assert (empty.shape, none.shape) == ((0,), (0,))


def test_the_divergences_by_hand() -> None:
    policy, reference = torch.tensor([math.log(0.5), math.log(0.5)]), torch.tensor([math.log(0.25), math.log(0.5)])
    assert p.k1(policy, reference).tolist() == pytest.approx([math.log(2), 0])
    assert p.k3(policy, reference).tolist() == pytest.approx([0.5 - 1 + math.log(2), 0])
    # Both are unbiased: over all outcomes, weighted by p, they are KL(p‖q).
    true = torch.tensor([0.7, 0.2, 0.1])
    other = torch.tensor([0.2, 0.3, 0.5])
    exact = float((true * (true / other).log()).sum())
    for estimate in (p.k1, p.k3):
        assert float((true * estimate(true.log(), other.log())).sum()) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.1),
        (6.6, 0.1 * (1 + 0.1 * 64 / 1000)),
        (60.0, 0.1 * (1 + 0.2 * 64 / 1000)),
        (0.0, 0.1 * (1 - 0.2 * 64 / 1000)),
    ],
)
def test_zieglers_controller(kl: float, expected: float) -> None:
    assert p.adapt_coefficient(0.1, kl, target=6.0, answers=64, horizon=1000) == pytest.approx(expected)


def test_whitening_by_hand() -> None:
    values = torch.tensor([[9.0, 1, 2, 3], [4, 5, 9, 9]])
    # the masked values are 1 … 5: mean 3, unbiased variance 2.5
    expected = torch.tensor([[0.0, -2, -1, 0], [1, 2, 0, 0]]) / math.sqrt(2.5)
    torch.testing.assert_close(p.whiten(values, MASK), expected)
    torch.testing.assert_close(p.whiten(values, MASK, shift=False), (expected + 3) * MASK)


def test_gae_by_hand_and_as_the_sum_of_its_definition() -> None:
    rewards, values = torch.tensor([[9.0, 0, 0, 1], [0.5, 2, 9, 9]]), torch.tensor([[9.0, 0.2, 0.4, 0.6], [1, 3, 9, 9]])
    g, lam = 0.9, 0.8
    advantages, returns = p.gae(rewards, values, MASK, discount=g, smoothing=lam)
    d3, d2, d1 = 1 - 0.6, 0.9 * 0.6 - 0.4, 0.9 * 0.4 - 0.2
    first = [0, d1 + g * lam * d2 + (g * lam) ** 2 * d3, d2 + g * lam * d3, d3]
    e1, e0 = 2 - 3, 0.5 + 0.9 * 3 - 1
    expected = torch.tensor([first, [e0 + g * lam * e1, e1, 0, 0]])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, (expected + values) * MASK)


def test_without_discount_and_smoothing_the_return_is_the_reward_to_come() -> None:
    rewards, values = torch.tensor([[0.0, 1, 2, 3], [4, 5, 0, 0]]), torch.rand(2, 4)
    _, returns = p.gae(rewards, values, MASK, discount=1.0, smoothing=1.0)
    torch.testing.assert_close(returns, torch.tensor([[0.0, 6, 5, 3], [9, 5, 0, 0]]))


def test_group_advantages_by_hand_and_ties_are_zero() -> None:
    rewards = torch.tensor([1.0, 2, 3, 0.1, 0.1, 0.1])
    scaled, ties = p.group_advantages(rewards, 3, scale=True)
    assert scaled.tolist() == pytest.approx([-1 / (1 + 1e-4), 0, 1 / (1 + 1e-4), 0, 0, 0])
    assert scaled[3:].tolist() == [0, 0, 0]
    assert ties.tolist() == [False, True]
    plain, _ = p.group_advantages(rewards, 3, scale=False)
    assert plain.tolist() == pytest.approx([-1, 0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.5, 2.0, -2.56, True),
        (1.5, -2.0, 3.0, False),
        (0.5, -2.0, 1.6, True),
        (0.5, 2.0, -1.0, False),
        (1.25, 1.0, -1.25, False),
    ],
)
def test_the_clipped_policy_loss_by_hand(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    new = torch.tensor(math.log(ratio), requires_grad=True)
    found, cut = p.clipped_policy(new, torch.tensor(0.0), torch.tensor(advantage), low=0.2, high=0.28)
    assert float(found.detach()) == pytest.approx(loss)
    assert bool(cut) is clipped
    (gradient,) = torch.autograd.grad(found, new)
    assert float(gradient) == pytest.approx(0.0 if clipped else -ratio * advantage)


@pytest.mark.parametrize(
    ("new", "old", "returns", "loss"), [(1.0, 1.0, 3.0, 2.0), (2.0, 1.0, 3.0, 0.5 * 1.8**2), (2.0, 1.0, 0.0, 2.0)]
)
def test_the_clipped_value_loss_by_hand(new: float, old: float, returns: float, loss: float) -> None:
    found = p.clipped_value(*(torch.tensor(x) for x in (new, old, returns)), clip=0.2)
    assert float(found.detach()) == pytest.approx(loss)


# tokens of the answers: 3 and 2, in a rollout of 12 tokens cut into 2 minibatches; the longest answer may have 4
NORMALISED = {
    "grpo": ((1 + 2 + 3) / 3 + (4 + 5) / 2) / 2, "bnpo": 15 / 5, "dapo": 15 / 6, "dr_grpo": 15 / 8,
}


@pytest.mark.parametrize("kind", NORMALISED)
def test_each_normalisation_by_hand(kind: str) -> None:
    losses = torch.tensor([[9.0, 1, 2, 3], [4, 5, 9, 9]])
    top = p.sum_losses(losses, MASK, by_answer=kind == "grpo")
    below = p.divisor(kind, answers=2, tokens=5, rollout_tokens=12, minibatches=2, longest=4)
    assert float(top) / below == pytest.approx(NORMALISED[kind])


@pytest.mark.parametrize("kind", NORMALISED)
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_the_grpo_loss_is_trls(kind: str, beta: float) -> None:
    pytest.importorskip("trl", reason="trl is not installed")
    from trl.trainer.grpo_trainer import GRPOTrainer

    generator = torch.Generator().manual_seed(3)
    new, old, reference = (torch.randn(2, 4, generator=generator) * 0.4 - 2 for _ in range(3))
    rewards = torch.tensor([1.0, 0.0])
    advantages, _ = p.group_advantages(rewards, 2, scale=True)

    class Metrics(dict[str, list[float]]):
        def __missing__(self, key: str) -> list[float]:
            return self.setdefault(key, [])

    accelerator = SimpleNamespace(num_processes=1, reduce=lambda x, reduction: x, gather=lambda x: x)
    arguments = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=2)
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (new, torch.zeros(2, 4), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=beta,
        args=arguments,
        loss_type=kind,
        epsilon_low=0.2,
        epsilon_high=0.28,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=4,
        accelerator=accelerator,
        _entropy_bonus_enabled=False,
        _metrics={"train": Metrics()},
    )
    inputs: dict[str, Tensor] = {
        "prompt_ids": torch.zeros(2, 1),
        "prompt_mask": torch.ones(2, 1),
        "completion_ids": torch.zeros(2, 4),
        "completion_mask": MASK,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": torch.tensor(12.0),
    }
    theirs = GRPOTrainer._compute_loss(stub, None, inputs)
    losses, _ = p.clipped_policy(new, old, advantages[:, None], low=0.2, high=0.28)
    ours = p.sum_losses(losses + beta * p.k3(new, reference), MASK, by_answer=kind == "grpo") / p.divisor(
        kind, answers=2, tokens=5, rollout_tokens=12, minibatches=2, longest=4
    )
    torch.testing.assert_close(ours, theirs)
