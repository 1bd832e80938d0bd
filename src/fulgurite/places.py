"""Where the package's own files lie."""

from __future__ import annotations

from pathlib import Path

from fulgurite.errors import ConfigError

PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The folder of YAML groups: inside an installed package, or at the root of a checkout. ConfigError where it is gone."""
    for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"The folder conf/ is missing beside {PACKAGE}; install fulgurite again.")
