"""The model card: valid for the hub, true to the run, and free of this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.end_to_end.runs import tiny
from tests.export.exports import export

from fulgurite.export.card import NAME, clean, find_licence, is_hub_id, name_base
from fulgurite.model.config import SmolLM2
from fulgurite.run.listing import summarize_run
from fulgurite.run.load import load_run

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def test_a_card_has_what_the_run_has(lora: Path, tmp_path: Path) -> None:
    card, run = ModelCard.load(export(lora, tmp_path / "out") / NAME), summarize_run(lora)
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.tags == ["fulgurite", "sft", "lora"]
    assert card.data.base_model is None  # the tiny model is not on the hub
    assert "| optim.lr | 0.01 |" in card.text
    assert f"| lowest validation loss | {run.best_val_loss:.4f} |" in card.text
    trained = json.loads((lora / "data_report.json").read_text())["trained"]
    assert f"- examples trained on: {trained}" in card.text
    assert f"| checkpoint | {(lora / 'checkpoints' / 'best').resolve().name} |" in card.text


def test_a_card_of_an_adapter_names_its_base(on_bf16: Path, tmp_path: Path) -> None:
    card = ModelCard.load(export(on_bf16, tmp_path / "out", "merge=false") / NAME)
    assert card.data.library_name == "peft"
    assert "PeftModel.from_pretrained" in card.text
    assert "base, trained by stage `sft`" in card.text  # of the path of the base its last name


def test_a_reward_model_is_a_classifier(tmp_path: Path) -> None:
    run = tiny(tmp_path / "run", "stage=rm", "data=guide_form", "trainer.max_steps=1")
    card = ModelCard.load(export(run, tmp_path / "out") / NAME)
    assert card.data.pipeline_tag == "text-classification"
    assert "AutoModelForSequenceClassification" in card.text


def test_paths_and_secrets_stay_here(lora: Path, tmp_path: Path) -> None:
    """As if a path and a key had got into the files of a run."""
    run, key = tmp_path / "run", "hf_" + "a" * 24
    shutil.copytree(lora, run, symlinks=True)
    found = json.loads((run / "provenance.json").read_text())
    found["knobs"]["stage.loss"]["value"] = key
    found["knobs"]["data.packing"]["value"] = f"{Path.home()}/private/name"
    (run / "provenance.json").write_text(json.dumps(found))
    text = (export(run, tmp_path / "out") / NAME).read_text()
    for word in (key, str(tmp_path), str(Path.home()), str(Path.cwd()), "private"):
        assert word not in text
    assert clean("/home/me/data.jsonl") == "data.jsonl"


def test_licences_are_the_bases_own(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_run(lora)
    assert find_licence(loaded) is None
    monkeypatch.setattr("fulgurite.export.card.find_base", lambda model: SmolLM2())
    assert find_licence(loaded) == "apache-2.0"
    assert name_base(loaded) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    monkeypatch.setattr(SmolLM2, "licence", "")
    monkeypatch.setattr(SmolLM2, "folder", lambda self: tmp_path)
    (tmp_path / NAME).write_text("---\nlicense: mit\n---\n\nText\n")
    assert find_licence(loaded) == "mit"
    (tmp_path / NAME).write_text("---\nlicense: [\n---\n")
    assert find_licence(loaded) is None


def test_a_folder_here_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("me/model")
    (tmp_path / "me" / "model").mkdir(parents=True)
    assert not is_hub_id("me/model")
    assert not is_hub_id("/me/model")
