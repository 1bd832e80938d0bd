"""The flags of `fulgurite train`: those of Hydra that are safe and of use here, told apart from overrides."""

# Hydra parses them again with argparse, which prints its usage and leaves. Left out of its list: --experimental-rerun, which
# loads a pickle; --config-name and --config-path, whose place --config-dir with an experiment takes; --run, which is the default.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fulgurite.errors import ConfigError, RequestError, suggest_similar

BARE = {"-h": "--help", "--hydra-help": "", "-m": "--multirun", "--resolve": "", "-sc": "--shell-completion"}
VALUED = {"-c": "--cfg", "-p": "--package", "-cd": "--config-dir", "-i": "--info"}
LONG = {long or short: short for short, long in (BARE | VALUED).items()}
VALUES = {"--cfg": ("job", "hydra", "all"), "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")}


@dataclass(slots=True)
class Flags:
    """Flags by their long names with their values, and the overrides beside them."""

    given: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    @property
    def config_dir(self) -> Path | None:
        """The folder of the user's own options."""
        return Path(self.given["--config-dir"]).expanduser() if "--config-dir" in self.given else None

    @property
    def needs_hydra(self) -> bool:
        """Whether more is asked for than one run."""
        return bool(self.given.keys() - {"--config-dir"})

    def words(self) -> list[str]:
        """The flags as Hydra reads them."""
        return [word for name, value in self.given.items() for word in ([name, value] if value else [name])]


def read(words: Sequence[str]) -> Flags:
    """The flags and overrides of a command line. Raises ConfigError for an unknown flag or a value that it does not take."""
    found, rest = Flags(), list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            found.overrides.append(word)
            continue
        short, _, value = word.partition("=")
        name = (BARE | VALUED).get(short) or short
        if name not in LONG:
            raise ConfigError(f"There is no flag {short}.{suggest_similar(short, LONG)} There are {', '.join(LONG)}; knobs are KNOB=VALUE.")
        if name in VALUED.values() and not value:
            if not rest:
                raise ConfigError(f"{short} wants a value{_choices(name)}.")
            value = rest.pop(0)
        if name in VALUES and value not in VALUES[name]:
            raise ConfigError(f"{short} {value} is not allowed{_choices(name)}.")
        if name == "--config-dir" and not Path(value).expanduser().is_dir():
            raise RequestError(f"--config-dir {value} is not a folder; give one that has your options, such as {value}/optim/mine.yaml.")
        found.given[name] = value
    _refuse_together(found)
    return found


def _refuse_together(asked: Flags) -> None:
    """Raise ConfigError where Hydra would die of a combination with a traceback."""
    alone = [name for name in ("--multirun", "--cfg", "--info", "--shell-completion") if name in asked.given]
    if len(alone) > 1:
        raise ConfigError(f"{' and '.join(alone)} cannot go together; take one of them.")
    if "--resolve" in asked.given and not {"--cfg", "--help"} & asked.given.keys():
        raise ConfigError("--resolve goes with --cfg job; add that.")
    if "--shell-completion" in asked.given and not any(o.startswith(("install=", "uninstall=", "query=")) for o in asked.overrides):
        raise ConfigError("--shell-completion wants install=bash, query=bash or uninstall=bash.")


def _choices(name: str) -> str:
    return f": one of {', '.join(VALUES[name])}" if name in VALUES else ""
