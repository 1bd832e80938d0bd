"""The table of what trains: names, layers, counts and shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import tiny, weights

from fulgurite.config.compose import compose
from fulgurite.config.schema import build
from fulgurite.method.summary import ranges, table
from fulgurite.text.console import VERBOSE


def test_table_of_a_run_counts_what_freeze_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Module, layers, parameters and share, each counted here by hand on the model itself."""
    monkeypatch.setenv(VERBOSE, "1")  # as `train -v` does
    words = ["method=freeze", "method.trainable='layers:0,2-3'", "method.extra_trainable=[norms]"]
    folder = tiny(tmp_path, "model.layers=4", *words, "trainer.max_steps=1")
    model = build(compose(["model=tiny", "model.layers=4"]).run.model, torch.float32).model
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    whole = sum(sizes.values())
    lines = capsys.readouterr().err.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["module", "layers", "parameters", "share"])
    found: dict[str, list[str]] = {}
    for line in lines[start + 1 :]:
        if line.startswith("  ") and line.rstrip().endswith("%"):
            found[line.split()[0]] = line.split()[1:]
        else:
            break
    for part in ("self_attn.q_proj", "mlp.down_proj"):
        count = sum(n for name, n in sizes.items() if f".{part}.weight" in name and ".layers.1." not in name)
        assert found[part] == ["0,2-3", f"{count:,}", f"{count / whole:.2%}"]
    norms = sum(n for name, n in sizes.items() if "input_layernorm" in name)
    assert found["input_layernorm"] == ["0-3", f"{norms:,}", f"{norms / whole:.2%}"]
    assert found["norm"] == [f"{sizes['model.norm.weight']:,}", f"{sizes['model.norm.weight'] / whole:.2%}"]
    assert sum(int(row[-2].replace(",", "")) for row in found.values()) == sum(
        p.numel() for p in weights(folder).values()
    )
    assert "embed_tokens" not in found


def test_rows_of_the_table_join_layers_and_name_the_kind_of_adapter() -> None:
    trained = [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", 100),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight", 50),
        ("base_model.model.model.layers.2.self_attn.q_proj.lora_A.default.weight", 100),
        ("model.layers.1.mlp.down_proj.weight", 1000), ("model.norm.weight", 50),
    ]
    lines = [line.split("  ") for line in table(trained, 10_000).splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines] == [
        ["module", "layers", "parameters", "share"],
        ["self_attn.q_proj (lora)", "0,2", "250", "2.50%"],
        ["mlp.down_proj", "1", "1,000", "10.00%"],
        ["norm", "50", "0.50%"],
    ]


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([5, 0, 2, 1], "0-2,5"), ([1, 1, 2], "1-2"), ([0, 2, 4], "0,2,4")]
)
def test_neighbouring_layer_numbers_are_joined(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
