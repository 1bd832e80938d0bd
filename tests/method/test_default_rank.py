"""The rank and scale of an adapter when they are empty."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.method.models import compose_run

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.method.config import AdapterMode, Lora
from fulgurite.method.config.lora import Variant
from fulgurite.method.default_rank import list_usual_alpha, recommend, recommend_alpha
from fulgurite.model.config import Hf, Model, SmolLM2, Tiny


def recommend_rank(method: Lora, model: Model | None = None, stage: str = "sft") -> int:
    """The rank of a method that leaves it empty."""
    chosen: Any = list_options("stage")[stage]()
    run = dataclasses.replace(compose_run("model=tiny"), model=model or SmolLM2(), method=method, stage=chosen)
    return int(recommend(run, Facts()).value)


def test_empty_rank_is_64_for_sft_on_small_models_and_16_elsewhere(tmp_path: Path) -> None:
    load_options()
    stages = {stage: recommend_rank(Lora(), stage=stage) for stage in ("sft", "pt", "rm", "dpo", "kto", "grpo")}
    assert stages == {"sft": 64, "pt": 64, "rm": 16, "dpo": 16, "kto": 16, "grpo": 16}
    assert [recommend_rank(Lora(), model) for model in (Tiny(), Hf(path="nobody/knows-7B"))] == [16, 16]
    for hidden, expected in ((576, 64), (2048, 16)):
        shape = {"hidden_size": hidden, "num_hidden_layers": 30, "intermediate_size": 4 * hidden, "vocab_size": 49152}
        (tmp_path / "config.json").write_text(json.dumps(shape))
        assert recommend_rank(Lora(), Hf(path=str(tmp_path))) == expected


def test_empty_rank_is_that_of_the_adapter_that_is_trained_further(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 5}')
    composed = compose(["stage=dpo", f"method.adapter_path={tmp_path}"])
    assert (composed.run.method.rank, composed.run.method.alpha) == (5, 10.0)
    assert composed.provenance["method.rank"].reason == f"the rank of the adapter in {tmp_path}"
    assert compose(["method.rank=8"]).run.method.rank == 8
    further = Lora(adapter_path=str(tmp_path))
    assert recommend_rank(further, stage="dpo") == 5
    assert recommend_rank(dataclasses.replace(further, adapter_mode=AdapterMode.stack), stage="dpo") == 16
    for broken in ("", "[]", "{}", '{"r": "x"}', '{"r": true}', '{"r": 0}'):
        (tmp_path / "adapter_config.json").write_text(broken)
        assert recommend_rank(further, stage="dpo") == 16


@pytest.mark.parametrize(("rank", "alpha"), [(8, 16.0), (64, 128.0), (5, 10.0)])
def test_empty_alpha_is_twice_the_rank(rank: int, alpha: float) -> None:
    run = dataclasses.replace(compose_run("model=tiny"), method=Lora(rank=rank))
    derived = recommend_alpha(run, Facts())
    assert derived.value == alpha
    assert f"twice the rank of {rank}" in str(derived.reason)


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4.0), (16, 8.0), (64, 16.0), (256, 32.0), (8, 5.6569)])
def test_empty_alpha_keeps_the_scale_of_lora_under_rslora(rank: int, alpha: float) -> None:
    """rsLoRA multiplies the update by alpha / sqrt(rank), https://arxiv.org/abs/2312.03732."""
    run = dataclasses.replace(compose_run("model=tiny"), method=Lora(rank=rank, variant=Variant.rslora))
    derived = recommend_alpha(run, Facts())
    assert derived.value == alpha
    assert derived.value / rank**0.5 == pytest.approx(2, rel=1e-5)
    assert list_usual_alpha(run).has(derived.value)
    assert "rsLoRA divides by the root" in str(derived.reason)


@pytest.mark.parametrize(
    ("billions", "rank"), [(0.049, 16), (0.05, 64), (0.135, 64), (0.5, 64), (0.51, 16), (None, 16)]
)
def test_rank_is_64_between_50_and_500_million_parameters(
    monkeypatch: pytest.MonkeyPatch, billions: float | None, rank: int
) -> None:
    run = dataclasses.replace(compose_run("model=tiny"), method=Lora())
    monkeypatch.setattr(type(run.model), "billions", lambda self: billions)
    derived = recommend(run, Facts())
    assert derived.value == rank
    assert ("M parameters" in str(derived.reason)) == (rank == 64)
