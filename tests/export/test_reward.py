"""A reward model as a classifier of transformers: its padding, its head and its rewards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.end_to_end.runs import tiny
from tests.export.exports import export, save_tiny
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fulgurite.cli.main import main
from fulgurite.errors import ModelError
from fulgurite.export.model import load_run
from fulgurite.export.reward import compare, relative

# peft asks by the old name
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def without_padding(folder: Path) -> Path:
    """The tiny model with a tokenizer whose only special token ends the turn."""
    save_tiny(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("pad_token", "bos_token", "unk_token", "additional_special_tokens", "extra_special_tokens"):
        config.pop(name, None)
    config["eos_token"] = "<|im_end|>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_reward_model_without_padding_gets_a_token_of_its_own(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = without_padding(tmp_path / "base")
    words = ["stage=rm", "data=guide_form", "model=hf", f"model.path={base}", f"method={method}", "optim.lr=1e-3"]
    run = tiny(tmp_path / "run", *words)
    out = export(run, tmp_path / "out")
    assert "Added the padding token <pad>" in capsys.readouterr().out
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert tokenizer.pad_token_id == model.config.pad_token_id == model.get_input_embeddings().weight.shape[0] - 1
    assert tokenizer.pad_token_id not in load_run(run).template.stop_ids
    if method == "lora":
        assert main(["export", f"run={run}", f"out={tmp_path / 'apart'}", "merge=false"]) == 2
        assert "the base has no row for another; export with merge=true" in capsys.readouterr().err


def test_the_difference_of_rewards_is_relative_to_the_largest() -> None:
    expected = torch.tensor([2.0, -4.0])
    assert relative(torch.tensor([2.0, -4.0]), expected) == 0
    assert relative(torch.tensor([2.1, -4.0]), expected) == pytest.approx(0.025)
    assert relative(torch.tensor([1e-3]), torch.tensor([0.0])) == pytest.approx(1.0)  # never divided by 0


@pytest.mark.parametrize("found", [[2.0, -4.001], [2.0, float("nan")]])
def test_rewards_that_differ_too_much_are_a_fault_of_the_export(found: list[float]) -> None:
    assert compare(torch.tensor([2.0, -4.0]), torch.tensor([2.0, -4.0]), "merged") == 0
    with pytest.raises(
        ModelError, match=r"The merged rewards differ by .*, more than 1e-05; this is a fault of the export"
    ):
        compare(torch.tensor(found), torch.tensor([2.0, -4.0]), "merged")
