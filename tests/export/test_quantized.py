"""Quantised exports: transformers loads them, and finds what quantising the merged model gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import tiny
from tests.export.exports import IDS, export
from transformers import AutoModelForCausalLM

from fulgurite.cli.main import main
from fulgurite.config.export_arguments import Quantization
from fulgurite.export.quantized import build_settings

# peft asks by the old name, and bitsandbytes warns of casts at every layer
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("kind", Quantization)
def test_transformers_loads_the_model_that_quantising_the_merged_one_gives(
    kind: Quantization, lora: Path, tmp_path: Path
) -> None:
    out = export(lora, tmp_path / "out", f"quantize={kind}")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".whole-")]
    whole = export(lora, tmp_path / "whole", "dtype=float32")
    found = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    expected = AutoModelForCausalLM.from_pretrained(
        whole, dtype=torch.float32, quantization_config=build_settings(kind), device_map={"": "cpu"}
    )
    plain = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    with torch.no_grad():
        ours, theirs, exact = (
            model.eval()(input_ids=IDS, use_cache=False).logits for model in (found, expected, plain)
        )
    assert torch.equal(ours, theirs)
    assert (ours - exact).abs().max() / exact.abs().max() > 1e-4  # else nothing was quantised
    config = json.loads((out / "config.json").read_text())["quantization_config"]
    assert config["load_in_4bit" if kind is Quantization.nf4 else "load_in_8bit"] is True
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["eos_token_id"]


def test_other_forms_and_reward_models_are_refused(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ("dtype=float16", "merge=false", "format=gguf", "modelfile=true"):
        assert main(["export", f"run={lora}", f"out={tmp_path / 'out'}", "quantize=nf4", more]) == 2
        assert "quantize=nf4 writes a merged folder of its own types" in capsys.readouterr().err
    run = tiny(tmp_path / "run", "stage=rm", "data=guide_preference", "method=full")
    assert main(["export", f"run={run}", f"out={tmp_path / 'out'}", "quantize=int8"]) == 2
    assert "this one gives rewards" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
