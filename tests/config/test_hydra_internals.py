"""What Hydra reads is kept between compositions, and read again once it has changed."""

from __future__ import annotations

import copy
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from yaml import YAMLError

from fulgurite.config.compose import compose
from fulgurite.config.hydra_internals import HYDRA_TESTED, KeptConfigs, keep_configs, parse_fast
from fulgurite.config.paths import find_conf_dir


def build_repository() -> KeptConfigs:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        keep_configs()
        repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    assert isinstance(repository, KeptConfigs)
    return repository


def test_private_names_are_those_of_the_tested_version() -> None:
    assert version("hydra-core") == HYDRA_TESTED


def test_a_kept_config_is_a_copy_that_may_be_changed() -> None:
    repository = build_repository()
    first, second = (repository.load_config("train") for _ in range(2))
    assert first is not None
    assert second is not None
    assert OmegaConf.to_container(first.config) == OmegaConf.to_container(second.config)
    first.config.run_dir = "changed"  # type: ignore[attr-defined]
    first.defaults_list.clear()
    third = repository.load_config("train")
    assert third is not None
    assert OmegaConf.to_container(third.config) == OmegaConf.to_container(second.config)
    assert third.defaults_list == second.defaults_list != []


def test_a_copied_repository_has_sources_of_its_own() -> None:
    """Hydra replaces the sources of its copy if `hydra.searchpath` is given."""
    repository = build_repository()
    made = copy.deepcopy(repository)
    before = list(repository.sources)
    assert made.sources == before
    made.sources.clear()
    assert repository.sources == before


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    preset = tmp_path / "experiment" / "mine.yaml"
    preset.parent.mkdir()
    for number, seed in enumerate((11, 22)):  # of equal size
        preset.write_text(f"# @package _global_\nseed: {seed}\n")
        os.utime(preset, ns=(number, number))
        for _ in range(2):
            assert compose(["model=tiny", "+experiment=mine"], config_dir=tmp_path).run.seed == seed


def test_a_folder_of_options_is_that_of_its_own_composition(tmp_path: Path) -> None:
    for name, seed in (("a", 11), ("b", 22)):
        preset = tmp_path / name / "experiment" / "mine.yaml"
        preset.parent.mkdir(parents=True)
        preset.write_text(f"# @package _global_\nseed: {seed}\n")
    seeds = [compose(["model=tiny", "+experiment=mine"], config_dir=tmp_path / name).run.seed
        for name in ("a", "b", "a")]
    assert seeds == [11, 22, 11]


def test_libyaml_reads_every_file_of_conf_as_omegaconf_does(tmp_path: Path) -> None:
    for path in sorted(find_conf_dir().rglob("*.yaml")):
        with parse_fast():
            fast = OmegaConf.to_container(OmegaConf.load(path))
        assert fast == OmegaConf.to_container(OmegaConf.load(path)), path
    twice = tmp_path / "twice.yaml"
    twice.write_text("lr: 1e-4\nlr: 1e-5\n")
    with parse_fast(), pytest.raises(YAMLError, match="duplicate key lr"):
        OmegaConf.load(twice)
    twice.write_text("lr: 1e-4\n")
    with parse_fast():
        assert OmegaConf.load(twice).lr == 1e-4
