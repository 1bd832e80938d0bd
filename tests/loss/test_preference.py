"""Each preference loss by arithmetic in plain floats, and against TRL's own lines."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fulgurite.loss import preference as p
from fulgurite.stage.preference_table import list_names

C, R, BETA = 1.5, -0.5, 0.2  # log ratios of one pair; the scaled margin is 0.2 · 2 = 0.4


def s(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(name: str) -> float:
    m, lp_c, lp_r = BETA * (C - R), -0.7, -1.9
    odds = (lp_c - math.log(1 - math.exp(lp_c))) - (lp_r - math.log(1 - math.exp(lp_r)))
    return {
        "sigmoid": -0.9 * math.log(s(m)) - 0.1 * math.log(s(-m)),
        "hinge": 1 - m,
        "ipo": (C - R - 1 / (2 * BETA)) ** 2,
        "robust": (-0.9 * math.log(s(m)) + 0.1 * math.log(s(-m))) / 0.8,
        "exo_pair": s(m) * (math.log(s(m)) - math.log(0.9)) + s(-m) * (math.log(s(-m)) - math.log(0.1)),
        "nca_pair": -math.log(s(BETA * C)) - 0.5 * math.log(s(-BETA * C)) - 0.5 * math.log(s(-BETA * R)),
        "bco_pair": -math.log(s(BETA * C - 0.05)) - math.log(s(-(BETA * R - 0.05))),
        "sppo_hard": (C - 2.5) ** 2 + (R + 2.5) ** 2,
        "aot": -0.9 * math.log(s(m)) - 0.1 * math.log(s(-m)),
        "discopop": -math.log(s(m)) * (1 - s(m / 0.05)) + math.exp(-m) * s(m / 0.05),
        "apo_zero": 1 - s(BETA * C) + s(BETA * R),
        "apo_down": s(BETA * C) + 1 - s(m),
        "orpo": -BETA * math.log(s(odds)),
        "simpo": -math.log(s(BETA * (lp_c - lp_r) - 0.3)),
        "cpo": -math.log(s(BETA * (lp_c - lp_r))),
    }[name]


def ours(name: str) -> Tensor:
    c, r = torch.tensor([C], dtype=torch.float64), torch.tensor([R], dtype=torch.float64)
    lp_c, lp_r = torch.tensor([-0.7], dtype=torch.float64), torch.tensor([-1.9], dtype=torch.float64)
    return {
        "sigmoid": lambda: p.sigmoid(c, r, BETA, 0.1),
        "hinge": lambda: p.hinge(c, r, BETA),
        "ipo": lambda: p.ipo(c, r, BETA),
        "robust": lambda: p.robust(c, r, BETA, 0.1),
        "exo_pair": lambda: p.exo_pair(c, r, BETA, 0.1),
        "nca_pair": lambda: p.nca_pair(c, r, BETA),
        "bco_pair": lambda: p.bco_pair(c, r, BETA, 0.05),
        "sppo_hard": lambda: p.sppo_hard(c, r, BETA),
        "aot": lambda: p.aot(c, r, BETA, 0.1),
        "discopop": lambda: p.discopop(c, r, BETA, 0.05),
        "apo_zero": lambda: p.apo_zero(c, r, BETA),
        "apo_down": lambda: p.apo_down(c, r, BETA),
        "orpo": lambda: p.orpo(lp_c, lp_r, BETA),
        "simpo": lambda: p.simpo(lp_c, lp_r, BETA, 0.3),
        "cpo": lambda: p.cpo(lp_c, lp_r, BETA),
    }[name]()


@pytest.mark.parametrize("name", list_names())
def test_by_hand(name: str) -> None:
    assert float(ours(name)) == pytest.approx(by_hand(name), rel=1e-12)


def test_there_are_fifteen() -> None:
    assert len(list_names()) == 15


@pytest.mark.parametrize("name", ["sigmoid", "aot", "cpo"])
def test_no_margin_is_ln_2(name: str) -> None:
    zero = torch.zeros(3)
    assert getattr(p, name)(zero, zero, 0.1).tolist() == pytest.approx([math.log(2)] * 3, abs=1e-7)


def trl(name: str, chosen: Tensor, rejected: Tensor, reference: Tensor, lengths: Tensor, smoothing: float) -> Tensor:
    """TRL's branch for a loss, cut out of DPOTrainer and run: it stands in a method that needs a trainer."""
    from trl.trainer import dpo_trainer

    source = inspect.getsource(dpo_trainer)
    found = re.search(rf'\n( +)(?:el)?if loss_type == "{name}":\n(.*?)(?=\n\1(?:elif |else:))', source, re.DOTALL)
    assert found is not None, f"TRL has no {name} any more"
    ref_chosen, ref_rejected = reference.unbind()
    names: dict[str, Any] = {
        "torch": torch,
        "F": torch.nn.functional,
        "device": "cpu",
        "chosen_logps": chosen,
        "rejected_logps": rejected,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
        "chosen_logratios": chosen - ref_chosen,
        "rejected_logratios": rejected - ref_rejected,
        "chosen_scores": chosen - ref_chosen,
        "rejected_scores": rejected - ref_rejected,
        "completion_mask": (torch.arange(9) < lengths.flatten()[:, None]).double(),
        "self": SimpleNamespace(beta=BETA, label_smoothing=smoothing, args=SimpleNamespace(discopop_tau=0.05)),
    }
    names["delta_score"] = names["chosen_scores"] - names["rejected_scores"]
    exec(textwrap.dedent(found[2]), names)
    loss: Tensor = names["per_sequence_loss"]
    return loss


def same_as_trl(name: str, smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    leaf = (-8 * torch.rand(2, 12, generator=generator, dtype=torch.float64)).requires_grad_()
    chosen, rejected = leaf.unbind()
    reference = -8 * torch.rand(2, 12, generator=generator, dtype=torch.float64)
    lengths = torch.randint(2, 9, (2, 12), generator=generator)
    c, r = chosen - reference[0], rejected - reference[1]
    calls = {
        "sigmoid": lambda: p.sigmoid(c, r, BETA),
        "hinge": lambda: p.hinge(c, r, BETA),
        "nca_pair": lambda: p.nca_pair(c, r, BETA),
        "ipo": lambda: p.ipo(c / lengths[0], r / lengths[1], BETA),
        "sigmoid_norm": lambda: p.sigmoid(c / lengths[0], r / lengths[1], BETA),
        "robust": lambda: p.robust(c, r, BETA, smoothing),
        "exo_pair": lambda: p.exo_pair(c, r, BETA, smoothing),
        "bco_pair": lambda: p.bco_pair(c, r, BETA),
        "sppo_hard": lambda: p.sppo_hard(c, r, BETA),
        "aot": lambda: p.aot(
            chosen - rejected, p.pair_by_rank(chosen - rejected, reference[0] - reference[1]), BETA, smoothing
        ),
        "discopop": lambda: p.discopop(c, r, BETA),
        "apo_zero": lambda: p.apo_zero(c, r, BETA),
        "apo_down": lambda: p.apo_down(c, r, BETA),
    }
    return calls[name](), trl(name, chosen, rejected, reference, lengths, smoothing), leaf


TRL = [
    "sigmoid", "hinge", "ipo", "robust", "exo_pair", "nca_pair", "bco_pair",
    "sppo_hard", "aot", "discopop", "apo_zero", "apo_down",
]


@pytest.mark.parametrize("name", [*TRL, "sigmoid_norm"])
def test_value_and_gradient_are_those_of_trls_lines(name: str) -> None:
    mine, theirs, leaf = same_as_trl(name, 0.1)
    grads = [torch.autograd.grad(t.mean(), leaf, retain_graph=True)[0] for t in (mine, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-9)
    assert grads[0].any()
    torch.testing.assert_close(mine.mean(), theirs.mean(), rtol=1e-6, atol=1e-9)  # exo_pair: TRL takes ln ε in float32
    if name == "aot":  # sorted there, in the order of pairs here
        mine, theirs = mine.sort().values, theirs.sort().values
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


def test_the_reference_free_losses_are_trls() -> None:
    """CPO, SimPO and ORPO: TRL's methods called on a stand-in for the trainer."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer

    chosen, rejected = (-3 * torch.rand(2, 12, generator=torch.Generator().manual_seed(5))).unbind()
    stand_in = SimpleNamespace(
        alpha=0.0,
        beta=2.0,
        simpo_gamma=0.6,
        label_smoothing=0.1,
        loss_type="simpo",
        accelerator=SimpleNamespace(device="cpu"),
    )
    torch.testing.assert_close(
        p.simpo(chosen, rejected, 2.0, 0.6, 0.1), CPOTrainer.cpo_loss(stand_in, chosen, rejected)[0]
    )
    stand_in.loss_type = "sigmoid"
    torch.testing.assert_close(p.cpo(chosen, rejected, 2.0, 0.1), CPOTrainer.cpo_loss(stand_in, chosen, rejected)[0])
    # there the term is beta · log σ, which is subtracted from the NLL
    torch.testing.assert_close(
        p.orpo(chosen, rejected, 2.0), -ORPOTrainer.odds_ratio_loss(stand_in, chosen, rejected)[0]
    )


def test_orpo_stays_finite_if_an_answer_is_certain() -> None:
    chosen, rejected = torch.tensor([0.0, -1e-9, -500.0]).requires_grad_(), torch.tensor([-500.0, 0.0, -1e-9])
    loss = p.orpo(chosen, rejected, 0.1)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert chosen.grad is not None
    assert torch.isfinite(chosen.grad).all()


def test_discopop_falls_from_margin_0_only_with_a_tau_above_a_tenth() -> None:
    # derivative at 0: -1/4 (logistic's half share) - 1/2 (exponential's) + (1 - ln 2) / (4 tau) (the mixture's own)
    for tau in (0.05, 0.1, 0.11, 0.5):
        margin = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        p.discopop(margin, torch.zeros(1, dtype=torch.float64), 1.0, tau).sum().backward()
        assert margin.grad is not None
        assert float(margin.grad) == pytest.approx(-0.75 + (1 - math.log(2)) / (4 * tau), rel=1e-9)
        assert (float(margin.grad) < 0) == (tau > 0.1023)


def test_of_like_rank_by_hand() -> None:
    # margins rank 3rd, 1st, 2nd; the reference's in order are -1, 0, 7
    assert p.pair_by_rank(torch.tensor([5.0, 1.0, 2.0]), torch.tensor([0.0, 7.0, -1.0])).tolist() == [7.0, -1.0, 0.0]


def test_kto_by_hand() -> None:
    ratio, good = torch.tensor([1.0, 1.0], dtype=torch.float64), torch.tensor([True, False])
    expected = [1.5 * (1 - s(0.2 * (1 - 0.3))), 2.0 * (1 - s(0.2 * (0.3 - 1)))]
    assert p.kto(ratio, good, torch.tensor(0.3), 0.2, 1.5, 2.0).tolist() == pytest.approx(expected, rel=1e-7)


def test_ktos_baseline_is_a_mean_never_negative_and_without_gradient() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    assert float(p.kto_kl(total, 4)) == 1.5
    assert not p.kto_kl(total, 4).requires_grad
    assert float(p.kto_kl(torch.tensor(-6.0), 4)) == 0.0
    assert float(p.kto_kl(torch.tensor(0.0), 0)) == 0.0


def test_kto_is_trls() -> None:
    """TRL computes it inside KTOTrainer's loss, which needs a trainer; these are its lines."""
    generator = torch.Generator().manual_seed(6)
    ratio, good, kl = torch.randn(12, generator=generator), torch.rand(12, generator=generator) > 0.4, torch.tensor(0.2)
    chosen, rejected = ratio[good], ratio[~good]
    first, second = 1 - torch.sigmoid(0.1 * (chosen - kl)), 1 - torch.sigmoid(0.1 * (kl - rejected))
    theirs = torch.cat((1.3 * first, 0.9 * second)).mean()
    torch.testing.assert_close(p.kto(ratio, good, kl, 0.1, 1.3, 0.9).mean(), theirs)
