"""A value of a parameter, judged under the options of a run."""

from __future__ import annotations

import pytest

from fulgurite.errors import ConfigError
from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.value import judge_value, split_context


def judge(words: str) -> str:
    asked, chosen = split_context(words.split())
    path, _, text = asked[0].partition("=")
    return str(judge_value([knob for knob in list_every_knob() if knob.path == path], text, chosen))


@pytest.mark.parametrize(("words", "part"), [
    ("optim.lr=1e-7", "1,000 times below what is usual with stage=sft method=lora"),
    ("optim.lr=1e-7", "Empty, it is 1e-3 there"),
    ("optim.lr=1e-5 stage=dpo method=full", "above what is usual with stage=dpo method=full"),
    ("optim.lr=1e-6 stage=dpo method=full", "is usual with stage=dpo method=full"),
    ("optim.lr=1e-3", "is usual with"),
    ("method.rank=1024", "above what is usual"),
    ("stage.beta=2", "above what is usual with stage=dpo"),
    ("stage.beta=2 stage.loss=simpo", "is usual with stage=dpo method=lora optim=adamw model=smollm2_135m stage.loss"),
    ("data.max_length=512", "is usual"), ("data.shuffle=false", "no range is usual"),
])
def test_value_is_compared_with_what_is_usual_for_the_run(words: str, part: str) -> None:
    assert part in judge(words)


@pytest.mark.parametrize("words", ["optim.lr=5", "optim.lr=abc", "method.rank=8 method=full"])
def test_value_that_is_not_legal_is_refused(words: str) -> None:
    with pytest.raises(ConfigError):
        judge(words)


def test_words_without_a_value_are_all_explained() -> None:
    assert split_context(["optim.lr", "method=lora"]) == (["optim.lr", "method=lora"], {})
    assert split_context(["optim.lr=1", "stage=dpo"]) == (["optim.lr=1"], {"stage": "dpo"})
