"""The declarations of adapters: what cannot be combined, what changes the base, and what begins at zero."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny
from tests.method.models import compose_run

from fulgurite.config.schema import list_options
from fulgurite.errors import ConfigError
from fulgurite.method.config import AdapterMode, Init, Lora, Oft, Qlora, Variant


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["method=lora", "method.init=loftq"], "use method=qlora"),
        (["method=qlora", "method.init=pissa"], "four bits cannot hold"),
        (["method=dora", "method.init=olora"], "both change the base"),
        (["method=lora", "method.init=pissa", "method.adapter_path=x"], "has weights of its own"),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "adapter_config.json").write_text('{"base_model_name_or_path": "base", "r": 4}')
    (tmp_path / "x" / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        tiny(tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("config", "zero"), [
    (Lora(), True), (Lora(init=Init.gaussian), True), (Lora(init=Init.pissa), False), (Lora(init=Init.olora), False),
    (Lora(adapter_path="x"), False), (Lora(adapter_path="x", adapter_mode=AdapterMode.stack), True),
    (Qlora(init=Init.loftq), False),
])
def test_an_adapter_begins_at_zero_unless_its_beginning_is_taken_from_somewhere(config: Lora, zero: bool) -> None:
    assert config.begins_at_zero() == zero


@pytest.mark.parametrize(("config", "says"), [
    (Lora(), ""), (Lora(adapter_path="x"), ""), (Qlora(init=Init.loftq), ""),
    (Lora(adapter_path="x", adapter_mode=AdapterMode.stack), "is stacked on another"),
    (Lora(init=Init.pissa), "started with method.init=pissa"),
    (Lora(init=Init.olora), "started with method.init=olora"),
])
def test_the_base_is_changed_by_stacking_and_by_beginnings_that_take_from_it(config: Lora, says: str) -> None:
    changed = config.base_change()
    assert str(changed or "").startswith(says)
    assert bool(changed) == bool(says)


def test_the_outline_of_qlora_is_plain_lora_without_a_beginning() -> None:
    outlined = Qlora(rank=5, alpha=3.0, init=Init.loftq, adapter_path="x", targets=["q_proj"]).outlined()
    assert type(outlined) is Lora
    assert outlined == Lora(rank=5, alpha=3.0, targets=["q_proj"])


@pytest.mark.parametrize(("config", "says"), [
    (Qlora(init=Init.loftq, variant=Variant.dora), "cannot be used with method.variant"),
    (Qlora(init=Init.loftq), None),
    (Lora(init=Init.pissa), None), (Lora(variant=Variant.dora), None),
    (Lora(adapter_path="nowhere"), "method.adapter_path=nowhere has no adapter_config.json"),
])
def test_refusals_of_beginnings_and_variants(config: Lora, says: str | None) -> None:
    refusal = config.find_refusal(compose_run("model=tiny"))
    assert refusal is None if says is None else says in str(refusal)


def test_rotations_are_refused_in_low_weights_alone() -> None:
    for precision, refused in (("pure_bf16", True), ("bf16", False), ("fp32", False)):
        run = dataclasses.replace(compose_run("model=tiny"), precision=list_options("precision")[precision]())
        refusal = Oft().find_refusal(run)
        assert (refusal is not None) == refused
        assert refusal is None or "use precision=bf16" in str(refusal)
