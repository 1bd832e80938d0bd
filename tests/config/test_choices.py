"""Options of a group, and the words suggested for a path or a hub id."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulgurite.config.choices import check_choice, list_names, suggest_instead
from fulgurite.config.compose import compose
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.run import GROUPS, SEVERAL, load_options
from fulgurite.config.schema import list_knobs, list_options
from fulgurite.errors import ConfigError


def test_the_suggestion_for_a_path_or_hub_id_composes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    assert str(suggest_instead("model", "base")) == " Write model=hf model.path=base."
    assert not suggest_instead("model", "lama")
    assert not suggest_instead("optim", "a/b")
    for group, word in (("model", "base"), ("model", "owner/name"), ("data", "my file (1).jsonl")):
        pasted = str(suggest_instead(group, word)).removeprefix(" Write ").removesuffix(".").split(" ", 1)
        assert compose(pasted).choices[group] in ("hf", "file")


def test_options_in_a_config_folder_are_choices(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("defaults:\n  - /schema/optim/adamw@_here_\n")
    assert "mine" in list_names("optim", tmp_path)
    check_choice("optim", "mine", "optim=mine", tmp_path)
    with pytest.raises(ConfigError, match="There is no optim=mine"):
        check_choice("optim", "mine", "optim=mine", None)


PRESETS = {"method": {"rslora": "lora", "dora": "lora", "pissa": "lora", "lora_plus": "lora"}}
"""Options under another name, with values of their own."""


def test_every_option_is_counted() -> None:
    counted = {group: len([n for n in list_names(group) if n != "none"]) for group in GROUPS}
    assert counted == {
        "stage": 7, "method": 13, "optim": 12, "scheduler": 10, "precision": 5, "privacy": 1, "model": 3, "data": 5,
        "trainer": 1, "strategy": 3, "launcher": 3, "callback": 8, "logger": 5,
    }
    for group in GROUPS:
        assert set(list_names(group)) - {"none"} == (set(list_options(group)) | PRESETS.get(group,
            {}).keys()) - {"none"}


def test_every_option_composes() -> None:
    """The n-th option of each group together: as many runs as the largest group has options."""
    names = {group: list_names(group) for group in GROUPS}
    for n in range(max(map(len, names.values()))):
        chosen = {group: options[n] for group, options in names.items() if n < len(options)}
        composed = compose([f"{group}={name}" for group, name in chosen.items()])
        assert composed.choices.items() >= {g: name for g, name in chosen.items() if g not in SEVERAL}.items()
        for group, name in chosen.items():
            found = getattr(composed.run, group)
            if group in SEVERAL:
                assert list(found) == ([name] if name != "none" else [])
            else:
                assert found.name == PRESETS.get(group, {}).get(name, name)


def test_each_yaml_file_of_conf_names_only_its_type() -> None:
    presets = {"sweep", "find", "experiment"}  # each has a test of its own
    load_options()
    found = find_conf_dir().rglob("*.yaml")
    files = [p for p in found if p.name not in {"train.yaml", "none.yaml"} and p.parent.name not in presets]
    assert len(files) == 76
    for path in files:
        if path.stem in PRESETS.get(path.parent.name, {}):
            continue
        lines = [line for line in path.read_text().splitlines() if line and not line.lstrip().startswith("#")]
        place = f"{path.parent.name}/{path.stem}"
        assert lines[:2] == ["defaults:", f"  - /schema/{place}@_here_"], path
        cls = list_options(path.parent.name)[path.stem]  # its other lines are the parameters with their defaults
        live = [line.partition(":")[0] for line in lines[2:] if line != "  - _self_"]
        assert live == [found.name for found in list_knobs(cls)], path
