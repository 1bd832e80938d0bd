"""The YAML of a draft; that it means the same as its words is tested with reading it back."""

from __future__ import annotations

import yaml

from fulgurite.board.draft import Draft
from fulgurite.board.draft_yaml import write_yaml


def test_yaml_holds_options_values_and_presets() -> None:
    text = write_yaml(Draft({"stage": "dpo"}, {"optim.lr": "5e-5", "name": "1e3", "seed": "７"}, {"sweep": "dpo_lora"}))
    assert text.startswith("# @package _global_\n")
    assert "# with: +sweep=dpo_lora\n" in text
    assert yaml.safe_load(text) == {
        "defaults": [{"override /stage": "dpo"}], "optim": {"lr": 5e-5}, "name": "1e3", "seed": 7,
    }
    assert "name: '1e3'" in text


def test_empty_draft_is_a_head_alone() -> None:
    assert yaml.safe_load(write_yaml(Draft())) is None
