"""The first screen decides by the declarations: stages by their data, methods by memory, values by their rules."""

from __future__ import annotations

import json
import re

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.run import load_options
from fulgurite.config.schema import list_options
from fulgurite.data.formats import detect_format
from fulgurite.explain import decision_table as table
from fulgurite.explain.model_shapes import BUNDLED, SHAPES, ModelShape
from fulgurite.optim.default_lrs import recommend
from fulgurite.plan.thresholds import MEMORY_FULL, MEMORY_TIGHT

load_options()
BY_KEY = {machine.key: machine for machine in table.MACHINES}


def test_there_is_an_answer_for_every_combination() -> None:
    found = list(table.list_decisions())
    assert len(found) == len(table.DATA) * len(table.MACHINES) * len(table.SHAPES)
    for data, machine, _, choice in found:
        assert data.stage in list_options("stage")
        assert choice.method in table.list_methods(data.stage)
        assert choice.fits == (choice.gigabytes <= table.FITS * machine.gigabytes)


def test_more_memory_never_asks_for_less() -> None:
    order = ["full", "lora", "qlora"]
    for data in table.DATA:
        for shape in SHAPES:
            chosen = [table.choose_method(data.stage, shape, m) for m in table.MACHINES if m.device == "cuda"]
            ranks = [(not choice.fits, order.index(choice.method), choice.checkpointing) for choice in chosen]
            assert ranks == sorted(ranks, reverse=True)


def test_known_cases() -> None:
    seven, seventy = SHAPES[4], SHAPES[7]
    assert table.choose_method("sft", BUNDLED, BY_KEY["cpu"]).method == "lora"
    assert table.choose_method("sft", seven, BY_KEY["gpu8"]).method == "qlora"
    assert table.choose_method("sft", seven, BY_KEY["gpu80"]) == table.MethodChoice(
        "lora", False, pytest.approx(22, abs=3), True
    )
    assert not table.choose_method("sft", seventy, BY_KEY["gpu24"]).fits
    assert table.find_largest("sft", BY_KEY["gpu24"]).label == "14B"
    assert table.choose_method("pt", SHAPES[3], BY_KEY["gpu80"]).method == "full"
    assert MEMORY_TIGHT < table.FITS < MEMORY_FULL


def test_values_are_those_of_the_rules() -> None:
    for shape in SHAPES:
        for data in table.DATA:
            for method in table.list_methods(data.stage):
                run, _ = table.build_sized_run(data.stage, method, shape.billions)
                setting = table.find_setting(data.stage, method, shape.billions, "optim.lr")
                assert setting.value == recommend(run, Facts()).value
                assert setting.usual is not None
                assert setting.derived is not None
    assert table.find_setting("sft", "lora", 7.6, "trainer.max_grad_norm").derived is None


@pytest.mark.parametrize("data", table.DATA, ids=lambda data: data.key)
@pytest.mark.parametrize("shape", [BUNDLED, SHAPES[4]], ids=lambda shape: shape.label)
def test_the_command_is_one_that_the_program_reads(data: table.DataKind, shape: ModelShape) -> None:
    choice = table.choose_method(data.stage, shape, BY_KEY["gpu8"])
    words = re.findall(r"'[^']*'|\S+", table.build_command(data, shape, choice))
    assert words[:2] == [f"stage={data.stage}", f"method={choice.method}"]
    assert ("trainer.gradient_checkpointing=true" in words) == choice.checkpointing
    run = compose([word.strip("'") for word in words]).run
    assert (run.stage.name, run.method.name) == (data.stage, choice.method)
    assert run.model.name == ("smollm2_135m" if shape is BUNDLED and data.stage != "pt" else "hf")


def test_the_records_are_read_as_their_stage_reads_them() -> None:
    for data in table.DATA:
        record = json.loads(data.example)
        reads = list_options("stage")[data.stage].reads  # type: ignore[attr-defined]
        assert detect_format(record, reads) is not None, data.key
