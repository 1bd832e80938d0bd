"""The shipped sums: right answers, no prompt twice, and no guess that pays."""

import re
from collections import Counter

import pytest

from fulgurite.data.build import build_source
from fulgurite.data.config import GuideForm, GuidePrompts
from fulgurite.data.guide import arithmetic as sums
from fulgurite.errors import DataError


def test_no_prompt_is_asked_twice_and_each_kind_is_held_out_too() -> None:
    made = sums.build_sums()
    assert len(made) == len({s.prompt for s in made}) == 132
    assert sum(s.held_out for s in made) == 33
    held_out = Counter(s.kind for s in made if s.held_out)
    assert held_out == dict.fromkeys([*sums.NUMBERS, *sums.WORDS], 3)


def test_the_answers_are_right() -> None:
    """Worked out again from the numbers that the question names."""
    hand = {
        "step": lambda a, b: a * b, "epoch": lambda rows, batch: rows / batch, "run": lambda steps,
        epochs: steps * epochs,
        "alpha": lambda rank: 2 * rank, "frozen": lambda layers, last: layers - last, "memory": lambda size,
        bytes_: size * bytes_,
        "left": lambda whole, done: whole - done, "warmup": lambda share, steps: share * steps / 100, "larger": max,
        "smaller": min,
        "yes": lambda first, second: first > second,
    }
    for s in sums.build_sums():
        found = hand[s.kind](*(float(word)
            for word in re.findall(r"\d+(?:e-\d+)?", s.prompt)))  # type: ignore[operator]
        right = "Yes" if found is True else "No" if found is False else found
        assert (s.answer if isinstance(right, str) else float(s.answer)) == right, s.prompt


def test_neither_yes_nor_the_first_of_two_is_a_good_guess() -> None:
    made = [s for s in sums.build_sums() if s.kind in sums.WORDS]
    assert Counter(s.answer for s in made if s.kind == "yes") == {"Yes": 6, "No": 6}
    for kind in ("larger", "smaller"):
        assert sum(re.findall(r"\d+e-\d+", s.prompt)[0] == s.answer for s in made if s.kind == kind) == 6


def test_the_prompts_are_handed_to_rewards_with_their_answers() -> None:
    source = build_source(GuidePrompts(), stage="grpo", seed=1)
    assert source.check().good == 132
    assert all({"answer", "kind"} <= e.columns.keys() for e in source.examples())  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"stage=sft expects answers to learn; use stage=grpo"):
        build_source(GuidePrompts(), stage="sft", seed=1)


def test_the_pairs_of_form_are_the_prompts_and_the_chosen_is_shorter() -> None:
    source = build_source(GuideForm(), stage="rm", seed=1)
    assert source.check().good == 132
    pairs = list(source.examples())
    assert {p.messages[0].content for p in pairs} == {s.prompt
        for s in sums.build_sums()}  # type: ignore[union-attr,index]
    for p in pairs:
        chosen, rejected = p.messages[-1].content, p.rejected[-1].content  # type: ignore[union-attr,index]
        assert chosen in rejected != chosen
