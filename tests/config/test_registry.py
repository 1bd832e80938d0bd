"""Plugins and option types in Hydra's store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from fulgurite.config import registry
from fulgurite.config.compose import compose
from fulgurite.config.registry import import_plugins, register
from fulgurite.config.schema import list_groups
from fulgurite.errors import ConfigError
from fulgurite.optim.config import AdamW


@pytest.mark.parametrize("body", ["def x(:\n", "raise RuntimeError('no')\n", "import nothing_of_the_kind\n"])
def test_a_plugin_that_cannot_be_imported_is_named(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin_of_a_test.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"broken_plugin_of_a_test\] cannot be imported"):
        compose(["plugins=[broken_plugin_of_a_test]"])


def test_an_imported_plugin_is_remembered_and_its_option_is_composed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_of_this_test.py").write_text("OPTIONS = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "IMPORTED", set())
    import_plugins(["plugin_of_this_test"])
    assert sorted(registry.IMPORTED) == ["plugin_of_this_test"]
    with pytest.raises(ConfigError, match=r"plugins=\[no_such_plugin\] cannot be imported: ModuleNotFoundError"):
        import_plugins(["no_such_plugin"])
    assert sorted(registry.IMPORTED) == ["plugin_of_this_test"]


def test_an_option_without_a_file_of_ours_goes_into_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(slots=True)
    class Mine(AdamW):
        """An optimizer of a plugin."""

    monkeypatch.setitem(list_groups()["optim"], "mine_of_this_test", Mine)
    register()
    store = ConfigStore.instance().repo
    try:
        assert OmegaConf.get_type(store["schema"]["optim"]["mine_of_this_test.yaml"].node) is Mine
        assert store["optim"]["mine_of_this_test.yaml"].package == "optim"
        assert "adamw.yaml" not in store.get("optim", {})  # conf/optim/adamw.yaml names its type itself
    finally:
        del store["schema"]["optim"]["mine_of_this_test.yaml"], store["optim"]["mine_of_this_test.yaml"]
