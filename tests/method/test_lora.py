"""LoRA: scale, variants and beginnings by their formulas, merging, earlier adapters, and patterns of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.end_to_end.runs import rows, tiny, weights
from tests.method.models import (
    IDS,
    adapt_architecture,
    build_adapted,
    build_base,
    compose_run,
    compute_logits,
    find_trained,
)

from fulgurite.config.schema import build
from fulgurite.errors import ConfigError, RequestError
from fulgurite.export.model import export_main, load_run
from fulgurite.plan.meta_model import count_without_adapter
from fulgurite.precision.policy import build as settle


def build_lora(*words: str) -> Any:
    run = compose_run("model=tiny", "method=lora", "precision=fp32", "method.alpha=12", *words)
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(4)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)  # zero at the start, where any two versions agree
    return model.eval()


def test_scale_is_alpha_over_rank() -> None:
    one, two = build_lora("method.rank=4"), build_lora("method.rank=4", "method.alpha=24")
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = (m.get_submodule(layer) for m in (one, two))
        base = a.base_layer(x)
        torch.testing.assert_close(b(x) - base, 2 * (a(x) - base), rtol=1e-4, atol=1e-5)
        by_hand = x @ a.lora_A["default"].weight.T @ a.lora_B["default"].weight.T * (12 / 4)
        torch.testing.assert_close(a(x) - base, by_hand, rtol=1e-4, atol=1e-5)


def test_merged_model_equals_the_adapter() -> None:
    model = build_lora()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        after = model.merge_and_unload()(input_ids=IDS).logits
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_disabled_adapter_is_the_base() -> None:
    model = build_lora()
    with model.disable_adapter():
        assert torch.equal(compute_logits(model), compute_logits(build_base()))


def test_lora_plus_moves_b_at_its_ratio(tmp_path: Path) -> None:
    # Adam's first step is the rate times the sign of the gradient, so the largest entry moves by exactly the rate
    from fulgurite.optim.param_groups import get_rate_scale

    model = build_adapted("lora_plus")
    scales = {get_rate_scale(p) for name, p in model.named_parameters() if "lora_B" in name}
    assert scales == {16.0}
    folder = tiny(tmp_path, "method=lora_plus", "optim.lr=1e-3", "trainer.max_steps=1", "scheduler=constant")
    moved = max(float(t.abs().max()) for name, t in weights(folder).items() if "lora_B" in name)
    assert moved == pytest.approx(16e-3, rel=1e-3)
    assert [row["train/lr"] for row in rows(folder) if "train/lr" in row] == [pytest.approx(1e-3)]


def test_rslora_and_dora_equal_their_formulas() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    for variant in ("rslora", "dora"):
        model = build_adapted("lora", f"method.variant={variant}", "method.rank=4", "method.alpha=8")
        layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.05)
        a, b, w = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.base_layer.weight
        with torch.no_grad():
            if variant == "rslora":
                expected = x @ (w + 8 / 4**0.5 * b @ a).T
            else:  # the length of each output's row is learned, and begins at that of the base
                direction = w + 8 / 4 * b @ a
                expected = x @ (w.norm(dim=1, keepdim=True) * direction / direction.norm(dim=1, keepdim=True)).T
            torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_pissa_begins_as_the_top_singular_components() -> None:
    name = "model.layers.0.self_attn.q_proj"
    original = build_base().get_submodule(name).weight.data
    layer = build_adapted("pissa", "method.rank=4").get_submodule(f"base_model.model.{name}")
    with torch.no_grad():
        adapter = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    u, s, v = torch.linalg.svd(original)
    torch.testing.assert_close(adapter, u[:, :4] * s[:4] @ v[:4], rtol=1e-3, atol=1e-5)


def test_an_adapter_is_trained_further_or_stacked_upon(tmp_path: Path) -> None:
    first = tiny(tmp_path / "first", "method.rank=4", "optim.lr=1e-2", "trainer.max_steps=5")
    assert export_main([f"run={first}", f"out={tmp_path / 'adapter'}", "merge=false"]) == 0
    was = compute_logits(load_run(first, "last", exact=True).model)
    start = f"method.adapter_path={tmp_path / 'adapter'}"
    torch.testing.assert_close(compute_logits(build_adapted("lora", "method.rank=4", start)), was, rtol=1e-4, atol=1e-5)
    stacked = build_adapted("lora", "method.rank=8", start, "method.adapter_mode=stack")
    torch.testing.assert_close(compute_logits(stacked), was, rtol=1e-4, atol=1e-5)
    assert (
        float(
            stacked.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
            .lora_B["default"]
            .weight.detach()
            .abs()
            .max()
        )
        == 0
    )
    with pytest.raises(ConfigError, match="is not an adapter of these parameters"):
        build_adapted("lora", "method.rank=8", start)
    second = tiny(tmp_path / "second", "method.rank=8", start, "method.adapter_mode=stack", "optim.lr=1e-2")
    with pytest.raises(RequestError, match="merge=false is not possible here: this run is stacked on another adapter"):
        export_main([f"run={second}", f"out={tmp_path / 'no'}", "merge=false"])
    assert export_main([f"run={second}", f"out={tmp_path / 'yes'}"]) == 0


def test_ranks_and_scales_by_pattern_and_modules_saved_whole() -> None:
    model = build_adapted(
        "lora",
        "method.rank=4",
        "+method.rank_pattern={layers.0.mlp.up_proj:2}",
        "+method.alpha_pattern={layers.0.mlp.up_proj:3}",
        "method.modules_to_save=[norm]",
        "method.targets=['*.layers.0.*']",
    )
    layer = model.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    assert (layer.r["default"], layer.scaling["default"]) == (2, 1.5)
    names = find_trained(model)
    assert any("norm.modules_to_save" in name for name in names)
    assert not any("layers.1." in name for name in names)
    with pytest.raises(ConfigError, match=r"is no module with weights\..*Did you mean norm"):
        build_adapted("lora", "method.modules_to_save=[nrm]")


def test_a_pattern_that_fits_no_layer_and_a_rank_that_no_matrix_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method.rank_pattern: q_porj matches no linear layer. Did you mean q_proj"):
        build_adapted("lora", "method.rank_pattern={q_porj: 4}")
    with pytest.raises(ConfigError, match=r"method.rank=128 is more than .* use method.rank="):
        build_adapted("qlora", "method.init=loftq", "method.rank=128")
    for init in ("pissa", "olora"):
        with pytest.raises(
            ConfigError, match=rf"method.rank=128 is more than .* has; with method.init={init} use method.rank="
        ):
            build_adapted("lora", f"method.init={init}", "method.rank=128")
    assert find_trained(build_adapted("lora", "method.rank=128"))  # an adapter that begins as nothing may have as many


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss", "llama4_text"])
def test_experts_of_one_tensor_are_adapted_or_counted_as_left_out(kind: str) -> None:
    experts = {"experts.gate_up_proj", "experts.down_proj"}
    assert not experts & count_without_adapter(adapt_architecture(kind)).keys()
    assert experts <= count_without_adapter(adapt_architecture(kind, "method.dropout=0.1")).keys()
    assert count_without_adapter(adapt_architecture("llama")) == {}


def test_lora_trains_its_matrices_and_nothing_else() -> None:
    run = compose_run("model=tiny", "method=lora", "method.rank=4", "precision=fp32")
    dtypes = settle(run.precision, "cpu")
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    trained = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in n for n in trained)
    # hidden 64, inner 128, 2 layers, 4 heads of 16 with 2 for keys and values:
    # q, o 64+64; k, v 64+32; gate, up 64+128; down 128+64
    assert sum(trained.values()) == 2 * 4 * (2 * 128 + 2 * 96 + 3 * 192)
