"""Each pair with an optimizer works, or is refused in one sentence before torch is loaded."""

from __future__ import annotations

import builtins
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import cells
from tests.end_to_end.runs import FULL_ONLY, RATES, SMALL, losses, tiny, weights

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig, load_options
from fulgurite.config.schema import build, list_options
from fulgurite.errors import ConfigError

load_options()
STAYING = {"constant", "constant_with_warmup"}


def with_options(run: RunConfig, *words: str) -> RunConfig:
    """The run with other options, all their knobs at their defaults."""
    pairs = [word.split("=") for word in words]
    return dataclasses.replace(run, **{group: list_options(group)[name]() for group, name in pairs})


def sentences(run: RunConfig) -> list[str]:
    return [str(sentence) for option in run.list_options() if (sentence := option.find_refusal(run)) is not None]


def test_every_pair_is_refused_or_not_as_declared() -> None:
    assert set(FULL_ONLY) < set(RATES)
    refused, base = set(), compose(["model=tiny"]).run
    for optim in list_options("optim"):
        for method in ("full", "lora"):
            for word in (
                "precision=pure_bf16",
                "precision=bf16",
                *(f"scheduler={name}" for name in list_options("scheduler")),
            ):
                found = sentences(with_options(base, f"optim={optim}", f"method={method}", "scheduler=constant", word))
                if found:
                    refused.add((optim, method, word))
                    assert len(found) == 1
                    assert f"optim={optim}" in found[0]
                    assert "; use " in found[0]
                    assert found[0].endswith(".")
    adapters = {(o, "lora", w) for o in FULL_ONLY for w in ("precision=pure_bf16", "precision=bf16")}
    adapters |= {(o, "lora", f"scheduler={s}") for o in FULL_ONLY for s in list_options("scheduler")}
    falling = {
        ("schedule_free", m, f"scheduler={s}")
        for m in ("full", "lora")
        for s in set(list_options("scheduler")) - STAYING
    }
    assert refused == adapters | falling | {("schedule_free", m, "precision=pure_bf16") for m in ("full", "lora")}


def test_a_refusal_comes_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"optim=galore cannot be used with method=lora: .*; use optim=adamw, or method=full"
    ):
        tiny(tmp_path / "run", "optim=galore", "method=lora")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("optim", "precision"), cells(sorted(RATES), ["bf16", "pure_bf16"]))
def test_every_optimizer_trains_in_every_precision_it_does_not_refuse(
    tmp_path: Path, optim: str, precision: str
) -> None:
    words = [
        f"optim={optim}",
        "method=full",
        f"precision={precision}",
        "scheduler=constant",
        f"optim.lr={RATES[optim]}",
    ]
    if (optim, precision) == ("schedule_free", "pure_bf16"):
        with pytest.raises(ConfigError, match="take precision=bf16"):
            tiny(tmp_path, *words)
        return
    found = losses(tiny(tmp_path, *words, *SMALL.get(optim, []), "trainer.max_steps=16"))
    assert sum(found[-6:]) / 6 < sum(found[:2]) / 2
    assert {t.dtype for t in weights(tmp_path).values()} == {
        torch.bfloat16 if precision == "pure_bf16" else torch.float32
    }


@pytest.mark.parametrize(
    ("optim", "library", "pip"),
    [("lion", "pytorch_optimizer", "pytorch-optimizer"), ("schedule_free", "schedulefree", "schedulefree"),
     ("adamw_8bit", "bitsandbytes", "bitsandbytes")],
)
def test_a_missing_library_is_one_sentence_with_pips_command(
    monkeypatch: pytest.MonkeyPatch, optim: str, library: str, pip: str
) -> None:
    import sys

    plain = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        return plain(name, *rest)

    monkeypatch.delitem(sys.modules, f"fulgurite.optim.{optim}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    config = compose(["model=tiny", f"optim={optim}", "scheduler=constant"]).run.optim
    with pytest.raises(ConfigError, match=f"^optim={optim} needs the package {pip}, .*: pip install {pip}$"):
        build(config, torch.nn.Linear(2, 2))
