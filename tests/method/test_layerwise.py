"""Layerwise: ranks and rates by rule and depth, and layers that thaw from the top."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import copy_until, rows, tiny, weights
from tests.method.models import UNFREEZE, build_adapted, build_base

from fulgurite.method.config import Layerwise, Lora
from fulgurite.method.layerwise import build_freeze_schedules, list_frozen_parameters
from fulgurite.optim.param_groups import get_rate_scale


def test_layerwise_gives_each_part_its_rate_and_kind() -> None:
    rules = 'method.rules=["layers:1 full lr=0.5","layers:0 lora rank=4 alpha=12","embed_tokens frozen"]'
    model = build_adapted("layerwise", rules, "method.layer_decay=0.8")
    scales = {name: get_rate_scale(p) for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split("layers.")[1][0] for name in scales} == {"0", "1"}
    for name, scale in scales.items():
        assert ("lora_" in name) == ("layers.0." in name)
        assert scale == pytest.approx(10 * 0.8 if "layers.0." in name else 0.5)
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    assert (layer.r["default"], layer.scaling["default"]) == (4, 3.0)


def test_layers_thaw_from_the_top_also_after_a_resume(tmp_path: Path) -> None:
    words = [*UNFREEZE, "trainer.save_every=1", "trainer.keep_checkpoints=9"]
    whole = tiny(tmp_path / "whole", *words, "trainer.max_steps=4")
    start, early, late = dict(build_base().named_parameters()), weights(whole, "step-2"), weights(whole, "step-4")

    def moved(now: dict[str, torch.Tensor], part: str) -> set[bool]:
        return {not torch.equal(now[f"model.{name}"], tensor) for name, tensor in start.items() if part in name}

    assert moved(early, "layers.1.") == {True}
    assert moved(early, "model.norm") == {True}
    assert moved(early, "layers.0.") == {False}
    assert moved(early, "embed_tokens") == {False}
    assert moved(late, "layers.0.") == {True}
    assert moved(late, "embed_tokens") == {True}
    for stop in (1, 3):  # before the lower layer thaws, and after
        part = tiny(copy_until(whole, tmp_path / f"stopped at {stop}", stop), *words, "trainer.max_steps=4")
        assert rows(part) == rows(whole)
        for name, tensor in late.items():
            assert torch.equal(weights(part)[name], tensor), name


def test_frozen_parameters_by_step_are_a_pure_function() -> None:
    model = build_base()
    names = {id(p): name for name, p in model.named_parameters()}

    def frozen(step: int) -> set[str]:
        return {names[id(p)] for p in list_frozen_parameters(model, 3, step)}

    lower = {name for name in names.values() if ".layers.0." in name}
    assert frozen(0) == frozen(2) == lower | {"model.embed_tokens.weight"}
    assert frozen(3) == frozen(100) == set()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers" not in name)
    assert frozen(0) == set()  # without layers that are trained nothing waits


def test_only_unfreezing_has_a_schedule_of_frozen_parameters() -> None:
    model = build_base()
    assert build_freeze_schedules(Lora(), model) == []
    assert build_freeze_schedules(Layerwise(), model) == []
    [schedule] = build_freeze_schedules(Layerwise(unfreeze_every=3), model)
    assert [id(p) for p in schedule(0)] == [id(p) for p in list_frozen_parameters(model, 3, 0)]
