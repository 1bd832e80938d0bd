"""The parameters of sft and pt: what they read of the data, and the balance of a router under privacy."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill
from fulgurite.data.reads import CONVERSATIONS, TEXT
from fulgurite.errors import ConfigError
from fulgurite.plan.preflight import refuse_impossible


@pytest.mark.parametrize(("coefficient", "privacy", "refused"), [
    ("0.01", "privacy=dp_sgd", True), ("0", "privacy=dp_sgd", False), ("null", "privacy=dp_sgd", False),
    ("0.01", "privacy=none", False),
])
def test_a_routers_balance_is_refused_under_privacy(coefficient: str, privacy: str, refused: bool) -> None:
    """It is between the tokens of several rows, whose gradients privacy clips apart."""
    run = compose([f"stage.router_aux_loss_coef={coefficient}", privacy, "method=lora", "logger=none"]).run
    assert (run.stage.find_refusal(run) is not None) == refused
    if refused:
        with pytest.raises(ConfigError, match=r"router_aux_loss_coef"):
            refuse_impossible(run)


def test_pt_reads_running_text_and_packs_it() -> None:
    facts = Facts(percentile_99=100, model_length=2048, rows=1000)
    pt, sft = (fill(compose([f"stage={name}"]), facts, "data").run for name in ("pt", "sft"))
    assert (pt.stage.reads, sft.stage.reads) == (TEXT, CONVERSATIONS)
    assert (str(pt.data.packing), str(sft.data.packing)) == ("best_fit", "none")
    assert (pt.trainer.epochs, sft.trainer.epochs) == (1.0, 2.0)


@pytest.mark.parametrize("word", ["stage.neftune_alpha=-1", "stage.router_aux_loss_coef=-0.1", "stage.loss=mse"])
def test_values_out_of_bounds_are_refused_by_name(word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace(".", r"\.")):
        compose([word])
