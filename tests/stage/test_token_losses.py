"""The losses of supervised fine-tuning, as they are declared, and as a run trains them."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.runs import losses, tiny

from fulgurite.config.compose import compose
from fulgurite.config.losses import get_loss
from fulgurite.stage.token_losses import TokenLoss, list_names


def test_sft_offers_the_likelihood_and_dft() -> None:
    assert list(list_names()) == ["nll", "dft"]
    declared = {name: get_loss(compose([f"stage.loss={name}"]).run.stage) for name in list_names()}
    assert all(isinstance(loss, TokenLoss) and loss.formula == "" for loss in declared.values())
    assert {name: (loss.likelihood, loss.weighted) for name, loss in declared.items()} == {
        "nll": (True, False), "dft": (False, True),  # only the first is nats, whose chance is ln(vocabulary)
    }


def test_dft_begins_at_the_loss_times_the_probability(tmp_path: Path) -> None:
    """A new model gives each of 512 tokens about the same probability."""
    words = ["method=full", "optim.lr=1e-2", "trainer.max_steps=4", "scheduler=constant"]
    plain, weighted = losses(tiny(tmp_path / "nll", *words)), losses(tiny(tmp_path / "dft", *words, "stage.loss=dft"))
    assert weighted[0] < plain[0] / 50
    assert len(weighted) == 4
    assert weighted[-1] != weighted[0]
