"""Options that cannot be part of a run are named with the reason."""

from __future__ import annotations

from fulgurite.board.worker.unfit import find_unfit
from fulgurite.config.run import RunConfig, load_options
from fulgurite.explain.knob_index import build_default_run
from fulgurite.language.current import use_language


def build_run(**chosen: str) -> RunConfig:
    load_options()
    return build_default_run(**chosen)


def test_optimizers_of_matrices_do_not_fit_adapters() -> None:
    unfit = find_unfit(build_run())
    assert {"muon", "galore", "apollo", "badam"} <= unfit["optim"].keys()
    assert "adapter" in unfit["optim"]["muon"]
    assert "lion" not in unfit["optim"]


def test_own_options_are_never_unfit() -> None:
    run = build_run(method="full", scheduler="constant", optim="muon")
    unfit = find_unfit(run)
    assert "muon" not in unfit.get("optim", {})
    assert "full" not in unfit["method"]
    assert {"lora", "dora"} <= unfit["method"].keys(), "a preset follows its option"


def test_reasons_are_in_the_language_in_use() -> None:
    with use_language("zh"):
        unfit = find_unfit(build_run())
    assert any("\u4e00" <= letter <= "\u9fff" for letter in unfit["optim"]["muon"])
