"""The door between Hydra's multirun and our search: its words become spaces, and its launcher runs each batch of
trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fulgurite.config.compose import build_composed
from fulgurite.config.hydra_app import Outcome, read_outcome
from fulgurite.config.override_checks import read_text_value
from fulgurite.errors import FulguriteError, Interrupted
from fulgurite.sweep.search import prepare_search, search
from fulgurite.sweep.spaces import Span, Values


def run_search(arguments: Sequence[str], config: DictConfig, loader: Any, make_launcher: Callable[[], Any]) -> None:
    """The whole of a search, called by our sweeper: Hydra's words become ours, and each batch of trials goes to
    Hydra's launcher."""
    shared, asked = _read_spaces(arguments, loader)
    settled = cast(DictConfig, OmegaConf.merge(loader.load_sweep_config(config, shared), {}))
    OmegaConf.set_struct(settled, False)
    OmegaConf.set_readonly(settled.hydra, False)
    # Hydra fills output_dir when a job begins; none has begun
    with open_dict(settled):
        settled.hydra.runtime.output_dir = "."
    base = build_composed(settled, shared)
    given = next((read_text_value(word) for word in shared if word.startswith("run_dir=")), None)
    named = next(
        (word.partition("=")[2] for word in config.hydra.overrides.hydra if word.startswith("hydra.sweep.dir=")), None
    )
    folder = given or named
    what = prepare_search(base, shared, asked, Path(folder).expanduser() if folder else None)
    OmegaConf.set_readonly(config.hydra, False)
    # a trial makes its own folder, whose number Hydra does not know; launchers compose each job anew
    with open_dict(config):
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(what.folder), "."
        own = [
            word
            for word in config.hydra.overrides.hydra
            if not word.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir="))
        ]
        config.hydra.overrides.hydra = [*own, f"hydra.sweep.dir='{what.folder}'", "hydra.sweep.subdir=."]
    launcher = make_launcher()

    def launch(jobs: list[list[str]], first: int) -> list[Outcome]:
        try:
            return [read_outcome(done) for done in launcher.launch(jobs, initial_job_idx=first)]
        except KeyboardInterrupt as error:  # the launcher's; a run answers Ctrl-C itself
            raise Interrupted("Stopped by Ctrl-C. The same command goes on with the search.") from error
        except (FulguriteError, HydraException, OmegaConfBaseException):
            raise
        # a worker that was killed, a job that left no result, no sbatch: each launcher has errors of its own
        except Exception as error:
            return [Outcome(1, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", lost=True)] * len(jobs)

    search(what, base, launch)


def _read_spaces(arguments: Sequence[str], loader: Any) -> tuple[list[str], dict[str, Any]]:
    """The words that all trials share, and what the others sweep over: lists, range(), interval(), with tag(log,
    ...)."""
    shared: list[str] = []
    asked: dict[str, Any] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        name, value = override.get_key_element(), override.value()
        if not override.is_sweep_override():
            shared.append(override.input_line or f"{name}={override.get_value_element_as_str()}")
        elif isinstance(value, IntervalSweep):
            low, high = float(value.start or 0), float(value.end or 0)
            whole = "int" in value.tags
            # a range over a factor of ten or more is searched on a logarithmic scale, also without tag(log, ...)
            asked[name] = Span(low, high, "log" in value.tags or (low > 0 and high / low >= 10), whole)
        else:
            asked[name] = Values(tuple(v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator()))
    return shared, asked
