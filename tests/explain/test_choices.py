"""Options, defaults and presets, as conf/ has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fulgurite.config import choices as config_choices
from fulgurite.config import compose
from fulgurite.config.choices import read_defaults
from fulgurite.config.schema import list_options
from fulgurite.explain import build_option_page, build_overview, choices, search
from fulgurite.explain.choices import is_default, list_presets
from fulgurite.explain.pages import build_group_page


def test_preset_has_a_page_with_its_first_line_and_its_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.yaml").write_text("defaults:\n  - _self_\n  - method: lora\n  - model: smollm2_135m\n")
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "wide.yaml").write_text(
        "# LoRA with a wide adapter. Take it for new knowledge.\n# More.\n"
        "defaults:\n  - lora\n  - _self_\nrank: 256\ndropout: 0.05\n"
    )
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "small.yaml").write_text("# @package _global_\n# A small one.\noptim:\n  lr: 1e-4\n")
    for module in (choices, config_choices):
        monkeypatch.setattr(module, "find_conf_dir", lambda: tmp_path)
    caches = (choices.list_presets, choices.read_default_options, choices._read_presets, read_defaults)
    for kept in caches:
        kept.cache_clear()
    try:
        page = build_option_page("method", "wide")
        assert "LoRA with a wide adapter. Take it for new knowledge." in page
        assert "method=lora with:" in page
        assert re.search(r"method\.rank +256", page)
        assert "wide" in build_group_page("method")
        assert "method=wide" in search("wide adapter")
        assert "A small one." in build_option_page("experiment", "small")
        assert "optim.lr" in build_option_page("experiment", "small")
        assert "experiment" in build_overview()
    finally:
        for kept in caches:
            kept.cache_clear()


def test_conf_is_the_folder_that_is_composed() -> None:
    assert choices.find_conf_dir() == compose.find_conf_dir()


def test_defaults_are_those_that_hydra_composes() -> None:
    ours = choices.read_default_options()
    assert {group: name for group, name in compose.compose().choices.items() if group in ours} == ours


def test_group_of_several_options_has_several_defaults() -> None:
    assert is_default("method", choices.read_default_options()["method"])
    assert not is_default("method", "qlora-of-nobody")
    several = [name for name in list_options("callback") if is_default("callback", name)]
    assert len(several) > 1
    assert "callback" not in choices.read_default_options()


def test_presets_are_files_without_a_class_of_their_own() -> None:
    found = {(preset.group, preset.name): preset for preset in list_presets()}
    dora = found["method", "dora"]
    assert (dora.base, dora.changes) == ("lora", {"variant": "dora", "rank": 8})
    assert all(preset.name not in list_options(preset.group) for preset in list_presets())
    assert {preset.group for preset in list_presets("method")} == {"method"}
    assert all(preset.summary for preset in list_presets())
