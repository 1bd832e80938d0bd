"""An adapter in a folder of its own: what it holds, how it is rounded, and the base that it names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from tests.end_to_end.runs import weights
from tests.export.exports import compute_logits, export

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.errors import RequestError
from fulgurite.export.adapter import refuse_apart, round_adapter
from fulgurite.export.model import load_run

# peft asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def test_an_adapter_alone_has_what_was_trained_and_loads_with_peft(lora: Path, tmp_path: Path) -> None:
    out = export(lora, tmp_path / "out", "merge=false")
    found = load_file(out / "adapter_model.safetensors")
    assert set(found) == {name.removeprefix("model.").replace(".default.", ".") for name in weights(lora, "best")}
    assert all(tensor.numel() and bool(tensor.any()) for tensor in found.values())
    base = build(compose(["model=tiny"]).run.model, torch.float32).model
    assert torch.equal(
        compute_logits(PeftModel.from_pretrained(base, out)), compute_logits(load_run(lora, exact=True).model)
    )
    assert not (out / "model.safetensors").exists()
    assert "[More Information Needed]" not in (out / "README.md").read_text()  # peft's card, with nothing filled in


def test_an_adapter_apart_is_rounded_like_the_rest(on_bf16: Path, tmp_path: Path) -> None:
    out = export(on_bf16, tmp_path / "out", "merge=false")
    found, trained = load_file(out / "adapter_model.safetensors"), weights(on_bf16)
    exact = {name.removeprefix("model.").replace(".default.", "."): tensor for name, tensor in trained.items()}
    assert set(found) == set(exact)
    assert all(tensor.dtype == torch.bfloat16 and torch.equal(tensor, exact[name].bfloat16()) for name,
        tensor in found.items())


def test_an_adapter_of_a_changed_base_may_not_stand_apart() -> None:
    run = compose(["model=tiny", "method=lora"]).run
    refuse_apart(run.method, run.model)
    run = compose(["model=tiny", "method=lora", "model.add_tokens=[<x>]"]).run
    with pytest.raises(RequestError, match=r"^merge=false is not possible here: this run .*; export with merge=true"):
        refuse_apart(run.method, run.model)


def test_rounding_an_adapter_rounds_its_file_and_the_model_alike(tmp_path: Path) -> None:
    base = build(compose(["model=tiny"]).run.model, torch.float32).model
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path)
    exact = load_file(tmp_path / "adapter_model.safetensors")
    round_adapter(model, tmp_path, torch.float32)
    assert all(torch.equal(t, exact[n]) for n, t in load_file(tmp_path / "adapter_model.safetensors").items())
    round_adapter(model, tmp_path, torch.bfloat16)
    found = load_file(tmp_path / "adapter_model.safetensors")
    assert all(torch.equal(tensor, exact[name].bfloat16()) for name, tensor in found.items())
    of_model = get_peft_model_state_dict(model)
    assert all(torch.equal(of_model[name], tensor.float()) for name, tensor in found.items())
