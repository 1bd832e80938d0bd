"""The parameters of data: their derived values, their refusals, and the shipped files."""

from __future__ import annotations

from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill
from fulgurite.config.schema import list_options
from fulgurite.data.build import GUIDE, build_source
from fulgurite.data.config import File, Guide, GuidePreference
from fulgurite.errors import DataError


def test_the_shipped_pairs_are_whole_and_length_is_no_hint() -> None:
    source = build_source(GuidePreference(), stage="dpo", seed=1)
    assert source.check().good == 64
    sides = [(e.messages[-1].content, e.rejected[-1].content)
        for e in source.examples()]  # type: ignore[union-attr,index]
    longer = sum(len(chosen) > len(rejected) for chosen, rejected in sides)
    assert 0.4 < longer / 64 < 0.6
    assert len({e.messages[0].content for e in source.examples()}) == 64  # type: ignore[union-attr,index]
    with pytest.raises(
        DataError, match=r"stage=dpo expects pairs of answers; use stage=sft or data=guide_preference\."
    ):
        build_source(Guide(), stage="dpo", seed=1)


@pytest.mark.parametrize(("arguments", "said"), [
    ({"template_arguments": {"tools": []}}, "may not contain tools"),
    ({"template_arguments": {"a b": 1}}, "not a valid argument name"),
    ({"enable_thinking": True, "template_arguments": {"enable_thinking": False}}, "contradict each other"),
])
def test_impossible_arguments_of_the_template_are_refused(arguments: dict[str, Any], said: str) -> None:
    assert said in str(File(**arguments).find_refusal(None))  # type: ignore[arg-type]


def derive(words: list[str], facts: Facts, name: str = "data.max_length") -> tuple[Any, str]:
    """The value that a parameter of data gets from the run and the facts, and its reason."""
    composed = compose(words)
    composed = fill(composed, facts, "data")
    return getattr(composed.run.data, name.partition(".")[2]), composed.provenance[name].reason


@pytest.mark.parametrize(("words", "facts", "length", "reason"), [
    ([], Facts(percentile_99=130, model_length=2048), 192,
        "the 99th percentile of the data, 130 tokens, rounded up to a multiple of 64"),
    ([], Facts(percentile_99=0, model_length=2048), 8, "the 99th percentile of the data, 0 tokens"),
    ([], Facts(percentile_99=3000, model_length=2048), 2048,
        "the model's maximum length; the 99th percentile of the data, 3000"),
    (["stage=pt"], Facts(percentile_99=9000, model_length=8192), 1024, "rows of 1024 tokens suit device cpu"),
    (["stage=pt"], Facts(percentile_99=9000, model_length=8192, device="cuda"), 4096,
        "rows of 4096 tokens suit device cuda"),
    (["stage=pt"], Facts(percentile_99=100, model_length=8192), 128, "the 99th percentile of the data, 100 tokens"),
    (["stage=grpo", "stage.max_new_tokens=100"], Facts(percentile_99=100, model_length=8192), 128,
        "the prompts, 100 tokens"),
    (["stage=grpo", "stage.max_new_tokens=100"], Facts(percentile_99=500, model_length=512), 412,
        "less stage.max_new_tokens"),
])
def test_the_length_follows_from_data_stage_and_model(words: list[str], facts: Facts, length: int, reason: str) -> None:
    found, why = derive(words, facts)
    assert found == length
    assert reason in why


@pytest.mark.parametrize(("words", "packing"), [([], "none"), (["stage=pt"], "best_fit"), (["privacy=dp_sgd"], "none")])
def test_only_running_text_is_packed_by_default(words: list[str], packing: str) -> None:
    assert compose(words).run.data.packing == packing


def test_thinking_is_one_of_the_arguments_of_the_template() -> None:
    assert File().arguments() == {}
    config = File(enable_thinking=False, template_arguments={"effort": 2})
    assert config.arguments() == {"effort": 2, "enable_thinking": False}
    assert config.find_refusal(None) is None  # type: ignore[arg-type]


def test_every_option_that_ships_files_has_them() -> None:
    shipped = [cls for cls in list_options("data").values() if cls.shipped[0]]  # type: ignore[attr-defined]
    assert len(shipped) == 4
    for cls in shipped:
        for name in filter(None, cls.shipped):  # type: ignore[attr-defined]
            assert (GUIDE / name).is_file(), name
