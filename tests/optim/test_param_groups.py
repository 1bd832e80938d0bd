"""Factors on the rate, what decays, and which rate is logged."""

from __future__ import annotations

import warnings

import pytest
import torch
from tests.end_to_end.runs import rows, tiny
from tests.optim.formula_net import Net, compose_optim
from torch.optim.lr_scheduler import LambdaLR

from fulgurite.config.compose import compose
from fulgurite.config.run import GROUPS
from fulgurite.config.schema import build
from fulgurite.errors import ConfigError
from fulgurite.method.config import Full
from fulgurite.optim.param_groups import (
    build_decay_groups,
    find_hidden_matrices,
    get_base_rate,
    get_rate_scale,
    scale_rate,
)
from fulgurite.plan.preflight import build_checked_source


def config(*words: str):  # type: ignore[no-untyped-def]
    return compose(["model=tiny", "optim.lr=0.5", "optim.weight_decay=0.25", *words]).run.optim


def test_factors_multiply_and_make_groups_of_their_own() -> None:
    net = Net()
    scale_rate(net.linear.weight, 4.0)
    scale_rate(net.linear.weight, 0.5)
    scale_rate(net.norm.bias, 2.0)
    assert get_rate_scale(net.linear.weight) == 2.0
    assert get_rate_scale(net.embed.weight) == 1.0
    found = [
        ({id(p) for p in g["params"]}, g["lr"], g["weight_decay"], g["rate_scale"])
        for g in build_decay_groups(net, config())
    ]
    assert found == [
        ({id(net.embed.weight), id(net.linear.bias), id(net.norm.weight)}, 0.5, 0.0, 1.0),
        ({id(net.linear.weight)}, 1.0, 0.25, 2.0),
        ({id(net.norm.bias)}, 1.0, 0.0, 2.0),
    ]


def test_all_decays_everything_when_asked() -> None:
    net = Net()
    groups = build_decay_groups(net, config("optim.weight_decay_on=all"))
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(5, 0.25)]


def test_the_base_rate_is_that_of_factor_one_under_a_schedule() -> None:
    net = Net()
    scale_rate(net.embed.weight, 8.0)
    optimizer = build(config("optim=sgd", "optim.momentum=0"), net)
    schedule = LambdaLR(optimizer, lambda step: 1.0 - 0.25 * step)
    for step in range(3):
        assert get_base_rate(optimizer) == 0.5 * (1.0 - 0.25 * step)
        before = net.embed.weight.detach().clone()
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        torch.testing.assert_close(before - net.embed.weight, torch.full_like(before, 8.0 * 0.5 * (1.0 - 0.25 * step)))
        schedule.step()
    for p in net.parameters():
        if p is not net.embed.weight:
            scale_rate(p, 2.0)
    scaled = build(config("optim=sgd"), net)
    assert get_base_rate(scaled) == 0.5  # no group has factor 1 any more


def test_the_logged_rate_is_the_base_rate(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from fulgurite.method import full

    plain = full.build

    def doubled(config, model, dtypes):  # type: ignore[no-untyped-def]
        model = plain(config, model, dtypes)
        for parameter in model.parameters():
            scale_rate(parameter, 2.0)
        return model

    monkeypatch.setattr(full, "build", doubled)
    folder = tiny(tmp_path, "method=full", "optim.lr=1e-3", "scheduler=constant")
    assert [row["train/lr"] for row in rows(folder) if "train/lr" in row] == [1e-3, 1e-3]


def test_every_option_of_a_run_is_asked_whether_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = compose(["model=tiny", "method=full", "logger=[csv,tensorboard]"])
    asked = [option.room for option in composed.run.list_options()]
    assert asked == [group for group in GROUPS for _ in range({"callback": 3, "logger": 2}.get(group, 1))]
    monkeypatch.setattr(Full, "find_refusal", lambda self, run: "method=full is refused here; take method=lora.")
    with pytest.raises(ConfigError, match="method=full is refused here; take method=lora"):
        build_checked_source(composed)


def test_hidden_matrices_are_neither_embeddings_heads_norms_nor_adapters() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {
        "vocab_size": 11,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    model = LlamaForCausalLM(LlamaConfig(**small, tie_word_embeddings=False))
    names = {name for name, p in model.named_parameters() if id(p) in find_hidden_matrices(model)}
    assert names == {
        f"model.layers.0.{part}.weight"
        for part in (
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        )
    }
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*"
        )  # peft asks by the old name
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert {
        name for name, p in adapted.named_parameters() if id(p) in find_hidden_matrices(adapted) and "lora_" in name
    } == set()


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.linear.requires_grad_(False)
    known = {id(p) for g in build(compose_optim("optim.lr=0.1"), net).param_groups for p in g["params"]}
    assert known == {id(p) for p in net.parameters() if p.requires_grad}
