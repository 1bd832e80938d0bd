"""The flags of `fulgurite train`, which are Hydra's, apart from the overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fulgurite.cli.parser import parse
from fulgurite.errors import ConfigError, RequestError


@dataclass(slots=True)
class Flags:
    """Flags by their long names with their values (empty for a switch), and the overrides beside them."""

    given: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    verbose: bool = False
    """Whether every value is printed with its reason; Hydra has no such flag."""

    @property
    def config_dir(self) -> Path | None:
        """The folder of the user's own options."""
        return Path(self.given["--config-dir"]).expanduser() if "--config-dir" in self.given else None

    @property
    def needs_hydra(self) -> bool:
        """Whether more is asked for than one run."""
        return bool(self.given.keys() - {"--config-dir"})

    def list_words(self) -> list[str]:
        """The flags as Hydra reads them."""
        return [word for name, value in self.given.items() for word in ([name, value] if value else [name])]


def read(words: Sequence[str]) -> Flags:
    """Reads a command line of `train`. Raises RequestError or ConfigError for flags that are wrong."""
    values = vars(parse("train", words))
    found = Flags(overrides=values.pop("words"), verbose=values.pop("verbose"))
    for name, value in values.items():
        if value not in (None, False):
            found.given[f"--{name.replace('_', '-')}"] = "" if value is True else value
    folder = found.config_dir
    if folder is not None and not folder.is_dir():
        raise RequestError(
            "--config-dir {folder} is not a folder; give one that has your options, such as "
            "{folder}/optim/mine.yaml.",
            folder=folder,
        )
    _refuse_together(found)
    return found


def prints_only(words: Sequence[str]) -> bool:
    """Returns whether a command line of `train` asks Hydra for text, and trains nothing."""
    flags = {word.partition("=")[0] for word in words}
    return not flags.isdisjoint({"--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc"})


def _refuse_together(asked: Flags) -> None:
    """Raises ConfigError for a combination of which Hydra would die with a traceback."""
    alone = [name for name in ("--multirun", "--cfg", "--info", "--shell-completion") if name in asked.given]
    if len(alone) > 1:
        raise ConfigError("{flags} cannot be combined; give one of them.", flags=", ".join(alone))
    if "--resolve" in asked.given and not {"--cfg", "--help"} & asked.given.keys():
        raise ConfigError("--resolve needs --cfg job; add that.")
    asks_shell = any(o.startswith(("install=", "uninstall=", "query=")) for o in asked.overrides)
    if "--shell-completion" in asked.given and not asks_shell:
        raise ConfigError("--shell-completion needs install=bash, query=bash or uninstall=bash.")
