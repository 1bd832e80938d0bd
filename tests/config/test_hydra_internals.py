"""What Hydra reads is kept between compositions, and read again once it has changed."""

from __future__ import annotations

import copy
import os
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from fulgurite.config.compose import compose
from fulgurite.config.hydra_internals import HYDRA_TESTED, MOST_KEPT, KeptConfigs, KeptLoader, keep_configs, parse_fast
from fulgurite.config.paths import find_conf_dir
from fulgurite.config.registry import register
from fulgurite.errors import ConfigError


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


def compose_with_hydra(words: list[str], keeps: bool) -> DictConfig:
    """Hydra's config of the words, without what we make of it."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(find_conf_dir()), version_base="1.3"):
        if keeps:
            keep_configs()
        return hydra_compose("train", overrides=words, return_hydra_config=True)


def list_types(config: DictConfig) -> list[type | None]:
    """The type of each node that is a dictionary."""
    nodes = [config._get_node(key) for key in config]
    inner = [node for node in nodes if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing()]
    return [OmegaConf.get_type(config), *(kind for node in inner for kind in list_types(node))]


@pytest.mark.parametrize("words", [
    [], ["optim.lr=1e-3", "stage=dpo"], ["method=lora", "method.rank=4", "scheduler=cosine"],
    ["+experiment=dpo_guide", "logger=[csv,wandb]", "logger.wandb.project=x"], ["callback=[progress]"],
    ["+sweep=sft_lora"],
], ids=" ".join)
def test_kept_composition_is_that_of_hydra(words: list[str]) -> None:
    plain = compose_with_hydra(words, keeps=False)
    KeptLoader.kept.clear()
    first = compose_with_hydra(words, keeps=True)
    first.seed, first.hydra.job.name = 99, "changed"  # what is kept is not what was returned
    compose_with_hydra([*words, "seed=7"], keeps=True)
    assert len(KeptLoader.kept) == 1
    again = compose_with_hydra(words, keeps=True)
    assert OmegaConf.to_container(again) == OmegaConf.to_container(plain)
    assert list_types(again) == list_types(plain)
    assert len(list_types(again)) > 20


def test_kept_composition_refuses_what_hydra_refuses() -> None:
    for words, said in ((["optim.lrr=1"], "optim.lrr"), (["optim.lr=abc"], "number"), (["method=nope"], "nope")):
        for _ in range(2):
            compose(["model=tiny"])
            with pytest.raises(ConfigError, match=said):
                compose(["model=tiny", *words])


def test_few_compositions_are_kept() -> None:
    KeptLoader.kept.update({(number,): None for number in range(MOST_KEPT)})
    compose(["model=tiny", "optim=sgd"])
    assert len(KeptLoader.kept) == 1


def test_option_that_appears_later_is_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    compose(["model=tiny"], config_dir=tmp_path)
    with pytest.raises(ConfigError, match="mine"):
        compose(["model=tiny", "+experiment=mine"], config_dir=tmp_path)
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 5\n")
    assert compose(["model=tiny", "+experiment=mine"], config_dir=tmp_path).run.seed == 5
