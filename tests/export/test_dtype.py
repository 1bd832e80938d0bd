"""The dtype of an export: the base's own unless another is given, each number rounded once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.end_to_end.runs import tiny
from tests.export.exports import export, save_tiny

from fulgurite.config.export_arguments import ExportDtype
from fulgurite.errors import RequestError
from fulgurite.export.dtype import cast, choose_written_dtype, rounded
from fulgurite.export.model import load_run
from fulgurite.model.config import Hf

# peft asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.mark.parametrize(("word", "kind"),
    [("", torch.bfloat16), ("dtype=float16", torch.float16), ("dtype=float32", torch.float32)])
def test_the_base_s_dtype_is_kept_unless_another_is_asked_for(
    word: str, kind: torch.dtype, on_bf16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = load_run(on_bf16, exact=True).model.merge_and_unload().state_dict()
    out = export(on_bf16, tmp_path / "out", *filter(None, [word]))
    found = load_file(out / "model.safetensors")
    for name, tensor in found.items():
        assert tensor.dtype == kind
        assert torch.equal(tensor, exact[name].to(kind)), name  # rounded once, after merging in float32
    assert json.loads((out / "config.json").read_text())["dtype"] == str(kind).removeprefix("torch.")
    shown = capsys.readouterr().out
    assert f" in {str(kind).removeprefix('torch.')}. Read back, the logits differ by at most " in shown
    assert ("Rounding to" in shown) == (kind != torch.float32)
    assert "Left out of generation_config.json, because transformers refuses them: temperature=0.6, top_p=0.9." in shown
    kept = json.loads((out / "generation_config.json").read_text())
    assert "temperature" not in kept
    assert 2 in kept["eos_token_id"]


def test_a_run_from_a_run_keeps_the_dtype_of_the_base_of_both(on_bf16: Path, tmp_path: Path) -> None:
    again = tiny(
        tmp_path / "again", "model=hf", f"model.path={on_bf16}", "method=full", "optim.lr=1e-3", "trainer.max_steps=1"
    )
    out = export(again, tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}


def test_a_number_too_large_for_the_dtype_is_refused(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    layer.weight.data.fill_(1e5)
    refusal = r"weight contains 1e\+05, which is too large for float16; export with dtype=bfloat16"
    with pytest.raises(RequestError, match=refusal):
        cast(layer, torch.float16)


def test_only_weights_that_are_saved_are_cast_and_ties_stay() -> None:
    model = torch.nn.Module()
    model.first, model.second = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    model.second.weight = model.first.weight
    model.register_buffer("kept", torch.ones(2, dtype=torch.float32))
    model.register_buffer("count", torch.ones(2, dtype=torch.int64))
    model.register_buffer("positions", torch.ones(2, dtype=torch.float32), persistent=False)
    cast(model, torch.bfloat16)
    assert model.first.weight is model.second.weight
    kinds = [tensor.dtype for tensor in (model.first.weight, model.kept, model.count, model.positions)]
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.int64, torch.float32]


def test_rounding_refuses_only_a_finite_number_that_becomes_infinite() -> None:
    assert rounded("w", torch.tensor([1 + 2**-12]), torch.float16).item() == 1
    assert torch.isinf(rounded("w", torch.tensor([float("inf")]), torch.float16)).all()
    assert rounded("w", torch.tensor([1e5]), torch.bfloat16).item() == 99840
    with pytest.raises(RequestError, match=r"^w contains 1e\+05, which is too large for float16"):
        rounded("w", torch.tensor([-1e5]), torch.float16)


@pytest.mark.parametrize(("asked", "kind"), [
    (ExportDtype.float16, torch.float16), (ExportDtype.float32, torch.float32), (None, torch.bfloat16),
])
def test_the_dtype_is_the_given_one_else_that_of_the_base(
    asked: ExportDtype | None, kind: torch.dtype, tmp_path: Path
) -> None:
    model = Hf(path=str(save_tiny(tmp_path, torch.bfloat16)))
    assert choose_written_dtype(asked, model) == kind
