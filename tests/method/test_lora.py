"""LoRA: merged it is the adapter, switched off it is the base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.precision.policy import build as settle

IDS = torch.arange(3, 63).reshape(2, 30)


def lora(*words: str) -> Any:
    run = compose(["model=tiny", "method=lora", "precision=fp32", "method.alpha=12", *words]).run
    dtypes = settle(run.precision, "cpu")
    torch.manual_seed(4)
    model = build(run.method, build(run.model, dtypes.frozen).model, dtypes)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)  # zero at the start, where any two versions agree
    return model.eval()


def test_the_scale_is_alpha_over_rank() -> None:
    one, two = lora("method.rank=4"), lora("method.rank=4", "method.alpha=24")
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = (m.get_submodule(layer) for m in (one, two))
        base = a.base_layer(x)
        torch.testing.assert_close(b(x) - base, 2 * (a(x) - base), rtol=1e-4, atol=1e-5)
        by_hand = x @ a.lora_A["default"].weight.T @ a.lora_B["default"].weight.T * (12 / 4)
        torch.testing.assert_close(a(x) - base, by_hand, rtol=1e-4, atol=1e-5)


def test_an_empty_rank_is_64_where_it_was_measured_to_be_ahead_and_16_elsewhere(tmp_path: Path) -> None:
    def rank(*words: str) -> int:
        return int(compose(list(words)).run.method.rank)

    assert [rank(f"stage={stage}") for stage in ("sft", "pt", "rm", "dpo", "kto", "grpo")] == [64, 64, 16, 16, 16, 16]
    assert [rank("model=tiny"), rank("model=hf", "model.path=nobody/knows-7B"), rank("method.rank=8")] == [16, 16, 8]
    for hidden, expected in ((576, 64), (2048, 16)):
        shape = {"hidden_size": hidden, "num_hidden_layers": 30, "intermediate_size": 4 * hidden, "vocab_size": 49152}
        (tmp_path / "config.json").write_text(json.dumps(shape))
        assert rank("model=hf", f"model.path={tmp_path}") == expected


def test_an_empty_rank_is_that_of_the_adapter_which_goes_on(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 5}')
    composed = compose(["stage=dpo", f"method.adapter_path={tmp_path}"])
    assert (composed.run.method.rank, composed.run.method.alpha) == (5, 10.0)
    assert composed.provenance["method.rank"].reason == f"that of the adapter in {tmp_path}"
    assert compose(["stage=dpo", f"method.adapter_path={tmp_path}", "method.adapter_mode=stack"]).run.method.rank == 16
    for broken in ("", "[]", "{}", '{"r": "x"}'):
        (tmp_path / "adapter_config.json").write_text(broken)
        assert compose(["stage=dpo", f"method.adapter_path={tmp_path}"]).run.method.rank == 16


def test_merged_is_adapter() -> None:
    model = lora()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        after = model.merge_and_unload()(input_ids=IDS).logits
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_switched_off_it_is_the_base() -> None:
    model = lora()
    base = build(compose(["model=tiny"]).run.model, torch.float32).model.eval()
    with torch.no_grad(), model.disable_adapter():
        assert torch.equal(model(input_ids=IDS).logits, base(input_ids=IDS).logits)
