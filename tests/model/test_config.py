"""The declarations of models: sizes read from folders, refusals, and what an adapter calls its base."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tests.model.folders import load_model

from fulgurite.config.compose import compose
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import list_options
from fulgurite.model.config import Hf, SmolLM2, Tiny

SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 512}
BILLIONS = (2 * (4 * 64 * 64 + 3 * 64 * 128) + 512 * 64) / 1e9
"""Four square matrices and three of the feed-forward in each layer, and the embedding."""


@pytest.fixture(scope="module")
def run() -> RunConfig:
    return compose(["model=tiny", "stage=sft", "method=full"]).run


def write(folder: Path, name: str, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def size_of(folder: Path) -> float | None:
    return Hf(path=str(folder)).billions()


def test_the_size_of_a_folder_is_estimated_from_its_widths(tmp_path: Path) -> None:
    assert size_of(write(tmp_path, "config.json", SHAPE)) == BILLIONS
    loaded = load_model(Tiny())
    assert sum(p.numel() for p in loaded.model.parameters()) / 1e9 == pytest.approx(BILLIONS, rel=0.2)
    without = {key: value for key, value in SHAPE.items() if key != "intermediate_size"}
    four_times = (2 * (4 * 64 * 64 + 3 * 64 * 256) + 512 * 64) / 1e9
    assert size_of(write(tmp_path, "config.json", without)) == four_times


@pytest.mark.parametrize(
    "content", [{}, {"hidden_size": "64"}, {**SHAPE, "vocab_size": None}, {**SHAPE, "hidden_size": 10**9}, []]
)
def test_a_config_without_widths_or_with_absurd_ones_has_no_size(tmp_path: Path, content: Any) -> None:
    assert size_of(write(tmp_path, "config.json", content)) is None
    assert size_of(tmp_path / "nowhere") is None


def test_the_size_of_an_adapter_is_that_of_its_base(tmp_path: Path) -> None:
    base = write(tmp_path / "base", "config.json", SHAPE)
    adapter = write(tmp_path / "adapter", "adapter_config.json", {"base_model_name_or_path": str(base)})
    assert size_of(adapter) == BILLIONS
    write(adapter, "adapter_config.json", {"base_model_name_or_path": SmolLM2.hub})
    assert size_of(adapter) == 0.135
    for name in (str(adapter), "", 7, "nobody/knows"):  # a ring, and bases that are not here
        write(adapter, "adapter_config.json", {"base_model_name_or_path": name})
        assert size_of(adapter) is None


def test_the_size_of_a_run_is_that_of_its_model(tmp_path: Path) -> None:
    base = write(tmp_path / "base", "config.json", SHAPE)
    for choice, knobs, expected in (
        ("smollm2_135m", {}, 0.135), ("tiny", {"model.layers": {"value": 4}}, 1e-4),
        ("hf", {"model.path": {"value": str(base)}}, BILLIONS), ("hf", {"model.path": {"value": 3}}, None),
        ("unknown", {}, None),
    ):
        run = write(tmp_path / "run", "provenance.json", {"choices": {"model": choice}, "knobs": knobs})
        assert size_of(run) == expected, choice
    assert size_of(write(tmp_path / "run", "provenance.json", {"choices": 3})) is None


def test_an_adapter_names_its_base_by_hub_id_or_path() -> None:
    assert SmolLM2().base_name() == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert Tiny().base_name() is None
    assert Hf(path="some/where").base_name() == "some/where"
    assert (Hf().folder(), Hf(path="a/b").folder(), Tiny().folder()) == (None, Path("a/b"), None)


def test_code_is_allowed_by_the_parameters_of_hf_alone() -> None:
    allowed = Hf(trust_remote_code=True, revision="abc").allowed()
    assert (allowed.model_code, allowed.revision) == (True, "abc")
    assert not Hf().allowed().model_code
    assert not SmolLM2().allowed().model_code


@pytest.mark.parametrize(("method", "refused"), [("full", False), ("lora", False), ("freeze", True), ("ia3", True)])
def test_new_tokens_are_refused_if_their_embeddings_are_frozen(run: RunConfig, method: str, refused: bool) -> None:
    chosen: Any = list_options("method")[method]()
    refusal = Tiny(add_tokens=["<city>"]).find_refusal(dataclasses.replace(run, method=chosen))
    assert (refusal is not None) == refused
    assert refusal is None or f"method={method} freezes them; use method=lora, qlora or full." in str(refusal)
    assert Tiny().find_refusal(dataclasses.replace(run, method=chosen)) is None


def test_freeze_may_train_the_embeddings_of_new_tokens(run: RunConfig) -> None:
    method: Any = list_options("method")["freeze"](extra_trainable=["embeddings"])  # type: ignore[call-arg]
    assert Tiny(add_tokens=["<city>"]).find_refusal(dataclasses.replace(run, method=method)) is None


def test_a_reward_run_is_refused_by_stages_that_speak(run: RunConfig, tmp_path: Path) -> None:
    write(tmp_path, "provenance.json", {"choices": {"model": "smollm2_135m", "stage": "rm"}})
    model = Hf(path=str(tmp_path))
    refusal = model.find_refusal(run)
    assert "is a reward model or classifier, which cannot generate text" in str(refusal)
    stage: Any = list_options("stage")["rm"]()
    assert model.find_refusal(dataclasses.replace(run, stage=stage)) is None
    write(tmp_path, "provenance.json", {"choices": {"model": "smollm2_135m", "stage": "sft"}})
    assert model.find_refusal(run) is None
