"""Full-width signs of a Chinese keyboard."""

from __future__ import annotations

from fulgurite.config.half_width import narrow, widen_nothing
from fulgurite.config.run import list_all_knobs


def test_full_width_letters_are_read_as_ours_but_in_texts() -> None:
    knobs = {knob.path: knob for knob in list_all_knobs()}
    assert widen_nothing("method.rank=８", knobs) == "method.rank=8"
    assert widen_nothing("method.rank＝８", knobs) == "method.rank=8"
    assert widen_nothing("data.path=数据８.jsonl", knobs) == "data.path=数据８.jsonl"
    assert widen_nothing("optim.lr=1e-4，1e-3", knobs) == "optim.lr=1e-4,1e-3"


def test_digits_and_punctuation_become_half_width() -> None:
    assert narrow("１ｅ－４，２。５") == "1e-4,2.5"
