"""The only door to Hydra and OmegaConf. In: choices and overrides. Out: a tree of typed dataclasses with provenance."""

# Long because it is the only one: what speaks to Hydra, command lines, searches and completion too, stands here and nowhere else.

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_origin

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, ValueNode, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fulgurite.config.choices import check_choice, named
from fulgurite.config.guard import Allowed, refuse_hydra, refuse_hydra_code, refuse_resolver, refuse_secret
from fulgurite.config.monitor import check_quiet
from fulgurite.config.overrides import UNREADABLE, as_typed, check_file, decoded_key, literal, name_of, read_value
from fulgurite.config.paths import conf_dir
from fulgurite.config.run import EARLIER, GROUPS, OWN, Facts, RunConfig, all_knobs, load_options
from fulgurite.config.schema import Knob, Option, Range, bare, check, groups, knobs_of, options, settings, type_words
from fulgurite.errors import (
    ConfigError,
    FulguriteError,
    Interrupted,
    Pruned,
    RequestError,
    TrainingFailed,
    did_you_mean,
)
from fulgurite.foreign_code import foreign
from fulgurite.text.console import say, say_error

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
NOT_COMPOSED = (OverflowError, ValueError, TypeError, AttributeError, KeyError, AssertionError, RecursionError)
"""What Hydra and OmegaConf let through for values that no type of theirs can hold, beside their own errors."""
PRESETS = ("experiment", "sweep", "find", "debug")
IMPORTED: set[str] = set()
"""The modules of `plugins` that this process was asked to import."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a knob's value came from: "default", "preset", "command line" or "derived", with the reason in words."""

    value: Any
    origin: str
    reason: str = ""


@dataclass(slots=True)
class Composed:
    """A typed run with, for each knob, where its value came from; `warnings` are the values outside the usual."""

    run: RunConfig
    choices: dict[str, str]
    provenance: dict[str, Origin]
    overrides: list[str]
    multirun: bool = False
    warnings: list[str] = field(default_factory=list)

    def fill(self, facts: Facts, needs: str) -> list[str]:
        """Fill the empty knobs whose rule needs `needs`; their names are returned, and their reasons kept."""
        filled = []
        for knob, value in settings(self.run):
            if value is None and knob.empty is not None and knob.empty.rule is not None and knob.empty.needs == needs:
                derived = knob.empty.rule(self.run, facts)
                place(self.run, knob.path, derived.value)
                self.provenance[knob.path] = Origin(derived.value, "derived", derived.reason)
                filled.append(knob.path)
        return filled

    def config(self) -> dict[str, Any]:
        """The whole config as plain values, each group with its option's name under `option`: enough to run it again."""
        found: dict[str, Any] = plain(self.run)
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job of a multirun ended."""

    status: int
    why: str = ""
    pruned: bool = False
    lost: bool = False
    """The launcher broke: nobody knows how this job ended, or whether it runs still."""


def place(run: RunConfig, path: str, value: Any) -> None:
    """Set the knob at a dotted path; a part of the path may be a key of a mapping (`logger.wandb.project`)."""
    node: Any = run
    *parents, last = path.split(".")
    for name in parents:
        node = node[name] if isinstance(node, dict) else getattr(node, name)
    setattr(node, last, value)


def plain(node: Any) -> Any:
    """Dataclasses as mappings of plain JSON values; an option's name goes under `option`."""
    if is_dataclass(node):
        head = {"option": type(node).name} if isinstance(node, Option) else {}
        return head | {f.name: plain(getattr(node, f.name)) for f in fields(node)}
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return str(node) if isinstance(node, str) else node


def import_plugins(modules: Sequence[str]) -> None:
    """Import modules that register options of their own. Raises ConfigError where one cannot be imported."""
    for module in modules:
        with foreign(lambda why, module=module: ConfigError(f"plugins=[{module}] cannot be imported: {why}.")):  # type: ignore[misc]
            importlib.import_module(module)
            IMPORTED.add(module)


def register(plugins: Sequence[str] = ()) -> None:
    """Put every option's type into Hydra's store, and options that have no YAML of ours directly into their group."""
    import_plugins(plugins)
    load_options()
    conf = conf_dir()
    _store("schema", "run", RunConfig)
    for group, classes in groups().items():
        for name, cls in classes.items():
            _store(f"schema/{group}", name, cls)
            if not (conf / group / f"{name}.yaml").is_file():
                _store(group, name, cls, f"{group}.{name}" if cls.several else group)


def _store(group: str, name: str, cls: type, package: str | None = None) -> None:
    """Unless it is there: making configs of all types anew is a third of the time that composing takes."""
    store = ConfigStore.instance()
    there = store.repo
    for part in group.split("/"):
        there = there.get(part, {})
    known = there.get(f"{name}.yaml")
    if known is None or OmegaConf.get_type(known.node) is not cls:
        store.store(group=group, name=name, node=cls, package=package)


def compose(overrides: Sequence[str] = (), config_dir: Path | None = None) -> Composed:
    """Compose `overrides` into a typed run. Raises ConfigError in one sentence with the nearest name or the remedy."""
    words = prepare(overrides, config_dir)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            extra = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
            try:
                config = hydra_compose("train", overrides=[*words, *extra], return_hydra_config=True)
            except NOT_COMPOSED as error:
                raise explained(error, overrides) from error
            return typed(config, overrides)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise explained(error, overrides) from error


def hydra_main(task: Callable[[Composed], int], overrides: Sequence[str], flags: Sequence[str], config_dir: Path | None = None) -> int:
    """Run `task` under Hydra's own command line: --multirun, --cfg, --help, --info. Returns the exit status.

    A trial of a sweep that fails is told, and the next one begins; the status is then that of the first that failed.
    """
    words = prepare(overrides, config_dir, multirun="--multirun" in flags)
    here = _Jobs(task)

    def job(config: DictConfig) -> Outcome:  # Hydra wants a function; joblib and submitit carry this one to other processes
        return here(config)

    try:
        brought = _under_hydra(job, [*flags, *words])
    except (HydraException, OmegaConfBaseException) as error:
        raise explained(error, words) from error
    for outcome in brought if not here.ended else ():  # submitit's jobs told it to files of their own
        if outcome.status:
            say_error(outcome.why)
    brought = brought or here.ended
    if (stopped := next((o for o in brought if o.status in Interrupted.STATUSES), None)) is not None:
        raise Interrupted.of(stopped.status, stopped.why)  # only now: Hydra writes a line of its own about a job that raises
    return next((o.status for o in brought if o.status), 0)


@dataclass(slots=True)
class _Jobs:
    """The jobs of a multirun in one process: each ends with an Outcome; after one that was stopped none begins."""

    task: Callable[[Composed], int]
    stopped: Outcome | None = None
    ended: list[Outcome] = field(default_factory=list)
    """Those that are no trials of a search, which passes over what fails."""

    def __call__(self, config: DictConfig) -> Outcome:
        if self.stopped is not None:
            return self.stopped
        settled = cast(DictConfig, OmegaConf.merge(config, {}))  # the job's own copy: hydra's node is read-only
        OmegaConf.set_struct(settled, False)
        settled.hydra = HydraConfig.get()
        chosen = list(settled.hydra.overrides.task)
        trial = next((word.partition("=")[2] for word in chosen if word.startswith("sweep.trial=")), None)
        job = settled.hydra.job
        outcome = self._ended(settled, chosen, trial or str(1 if OmegaConf.is_missing(job, "num") else job.num + 1))
        self.stopped = outcome if outcome.status in Interrupted.STATUSES else None
        self.ended += [outcome] if trial is None else []
        return outcome

    def _ended(self, config: DictConfig, chosen: list[str], number: str) -> Outcome:
        try:
            return Outcome(self.task(typed(config, chosen)))
        except Pruned as error:
            return Outcome(error.exit_status, str(error), pruned=True)
        except Interrupted as error:
            return Outcome(error.exit_status, str(error))
        except (FulguriteError, OmegaConfBaseException) as error:
            told = error if isinstance(error, FulguriteError) else explained(error, chosen)
            say_error(f"Trial {number} ({' '.join(chosen)}): {told}")
            return Outcome(told.exit_status, str(told))
        except SystemExit as error:  # of code that is not ours: Hydra would end the whole command with its status
            why = f"the code of the trial called sys.exit({error.code!r})"
            say_error(f"Trial {number} ({' '.join(chosen)}): {why}")
            return Outcome(TrainingFailed.exit_status, why)


def searched(arguments: Sequence[str], config: DictConfig, loader: Any, make_launcher: Callable[[], Any]) -> None:
    """The whole of a search, called by our sweeper: Hydra's words become ours, and each batch of trials goes to Hydra's launcher."""
    from fulgurite.sweep.search import prepared, search

    shared, asked = _spaces(arguments, loader)
    settled = cast(DictConfig, OmegaConf.merge(loader.load_sweep_config(config, shared), {}))
    OmegaConf.set_struct(settled, False)
    OmegaConf.set_readonly(settled.hydra, False)
    with open_dict(settled):
        settled.hydra.runtime.output_dir = "."
    base = typed(settled, shared)
    given = next((value_of(word) for word in shared if word.startswith("run_dir=")), None)
    said = next((word.partition("=")[2] for word in config.hydra.overrides.hydra if word.startswith("hydra.sweep.dir=")), None)
    folder = given or said
    what = prepared(base, shared, asked, Path(folder).expanduser() if folder else None)
    OmegaConf.set_readonly(config.hydra, False)
    with open_dict(config):  # a trial makes its own folder, whose number Hydra does not know; launchers compose each job anew
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(what.folder), "."
        own = [word for word in config.hydra.overrides.hydra if not word.startswith(("hydra.sweep.dir=", "hydra.sweep.subdir="))]
        config.hydra.overrides.hydra = [*own, f"hydra.sweep.dir='{what.folder}'", "hydra.sweep.subdir=."]
    launcher = make_launcher()

    def launch(jobs: list[list[str]], first: int) -> list[Outcome]:
        try:
            return [_outcome(done) for done in launcher.launch(jobs, initial_job_idx=first)]
        except KeyboardInterrupt as error:  # the launcher's; a run answers Ctrl-C itself
            raise Interrupted("Stopped by Ctrl-C. The same command goes on with the search.") from error
        except (FulguriteError, HydraException, OmegaConfBaseException):
            raise
        except Exception as error:  # a worker that was killed, a job that left no result, no sbatch: each launcher has errors of its own
            return [Outcome(1, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", lost=True)] * len(jobs)

    search(what, base, launch)


def _outcome(done: Any) -> Outcome:
    """What a launched job came to; one that broke with an exception of another's is told and passed over."""
    try:
        found = done.return_value
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        say_error(f"{' '.join(done.overrides or [])}: {why}")
        return Outcome(TrainingFailed.exit_status, why)
    return found if isinstance(found, Outcome) else Outcome(TrainingFailed.exit_status, "the launcher brought nothing back")


def _spaces(arguments: Sequence[str], loader: Any) -> tuple[list[str], dict[str, Any]]:
    """The words that all trials share, and what the others sweep over: lists, range(), interval(), with tag(log, ...)."""
    from fulgurite.sweep.spaces import Span, Values

    shared: list[str] = []
    asked: dict[str, Any] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        name, value = override.get_key_element(), override.value()
        if not override.is_sweep_override():
            shared.append(override.input_line or f"{name}={override.get_value_element_as_str()}")
        elif isinstance(value, IntervalSweep):
            low, high = float(value.start or 0), float(value.end or 0)
            whole = "int" in value.tags
            asked[name] = Span(low, high, "log" in value.tags or (low > 0 and high / low >= 10), whole)
        else:
            asked[name] = Values(tuple(v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator()))
    return shared, asked


def complete(words: Sequence[str]) -> int:
    """Hydra's tab completion, told what to do by `install=bash`, `query=bash` and the like. Returns 0."""
    register()
    try:
        _under_hydra(lambda config: None, ["--shell-completion", *words])
    except (HydraException, ValueError) as error:
        raise RequestError(f"{' '.join(words)} cannot be answered: {error} Write install=bash, query=bash or uninstall=bash.") from error
    return 0


def _under_hydra(job: Callable[[DictConfig], Outcome | None], words: Sequence[str]) -> list[Outcome]:
    """What the jobs of a multirun brought back: those of joblib and submitit have no other way into this process."""
    import hydra
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.hydra import Hydra

    brought: list[Outcome] = []

    def keeping(*args: Any, **named: Any) -> Any:
        batches = multirun(*args, **named)
        brought.extend(_outcome(done) for batch in batches or () for done in batch)
        return batches

    def checking(*args: Any, **named: Any) -> DictConfig:  # before Hydra makes the callbacks and loggers of a config
        config = load(*args, **named)
        refuse_hydra_code(OmegaConf.to_container(config.hydra))
        return config

    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["fulgurite", *words], "1"  # else Hydra prints, and leaves with its own status
    multirun, Hydra.multirun = Hydra.multirun, keeping  # type: ignore[method-assign]  # hydra.main drops what it returns
    load, ConfigLoaderImpl.load_configuration = ConfigLoaderImpl.load_configuration, checking  # type: ignore[method-assign]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except SystemExit as left:  # after --help and the like
        if left.code:
            raise
    finally:
        sys.argv, Hydra.multirun = before, multirun  # type: ignore[method-assign]
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
        os.environ.pop("HYDRA_FULL_ERROR")
        os.environ.update({"HYDRA_FULL_ERROR": full} if full is not None else {})
    return brought


def prepare(overrides: Sequence[str], config_dir: Path | None = None, multirun: bool = False) -> list[str]:
    """Check overrides before Hydra sees them, import plugins, keep text as it was typed, and let one item stand for a list of one."""
    register(_plugins(overrides, config_dir))
    for text in overrides:
        name, equals, _ = text.lstrip("+~").partition("=")
        if equals and not name.strip():
            raise ConfigError(f"{text} names no knob; write KNOB=VALUE.")
        refuse_secret(name, text)
        refuse_resolver(name, text)
    knobs = {k.path: k for k in all_knobs()}
    _check_files(overrides, config_dir, knobs)
    return [_checked(as_typed(text, knobs, multirun), text, knobs, config_dir) for text in overrides]


def _check_files(overrides: Sequence[str], config_dir: Path | None, knobs: dict[str, Knob]) -> None:
    """Raise ConfigError if a file that was chosen has text which YAML reads as something else."""
    for text in overrides:
        name, _, value = text.lstrip("+~").partition("=")
        if (name not in PRESETS and name not in GROUPS) or not NAME.fullmatch(value):
            continue
        for folder in (conf_dir(), config_dir):
            if folder is not None and (path := folder / name / f"{value}.yaml").is_file():
                loaded = OmegaConf.to_container(_loaded(path))
                check_file(path, "" if name in PRESETS else f"logger.{value}" if name == "logger" else name, loaded, knobs)


def _plugins(overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """The modules that the words or the chosen presets name: options must be known before Hydra looks for them."""
    found: list[str] = []
    for text in overrides:
        name, _, value = text.lstrip("+~").partition("=")
        found += re.findall(r"[\w.]+", value) if name == "plugins" else []
        if name in PRESETS and NAME.fullmatch(value):
            files = [folder / name / f"{value}.yaml" for folder in (conf_dir(), config_dir) if folder is not None]
            preset = [_loaded(path) for path in files if path.is_file()]
            found += [str(m) for p in preset if isinstance(p, DictConfig) for m in p.get("plugins") or []]
    return found


def _loaded(path: Path) -> Any:
    try:
        return OmegaConf.load(path)
    except (YAMLError, OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}; mend the file.") from error


def _checked(text: str, typed_text: str, knobs: dict[str, Knob], config_dir: Path | None = None) -> str:
    if (name := name_of(text)) and "." in name and name not in knobs and not _under_mapping(name, knobs) and not name.startswith("hydra."):
        raise ConfigError(f"There is no knob {name}.{did_you_mean(name, knobs)} `fulgurite explain` lists them.")
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        remedy = f"quote it: '{typed_text.partition('=')[0]}=\"...\"'" if "=" in text else "write knob=value"
        if not isinstance(error, HydraException):
            remedy = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise ConfigError(f"{typed_text} cannot be read; {remedy}.") from error
    name = override.key_or_group
    if override.is_delete():
        raise ConfigError(f"{typed_text} cannot be: nothing is deleted here; leave {name} out, or set it to another value.")
    if name.split(".")[0].split("/")[0] == "hydra":
        refuse_hydra(name)
        return text
    heads = {*groups(), *GROUPS, *PRESETS}
    if name not in knobs and name not in heads and not _under_mapping(name, knobs):
        raise ConfigError(f"There is no knob {name}.{did_you_mean(name, [*knobs, *heads])} `fulgurite explain` lists them.")
    knob, value = knobs.get(name), override.value()
    if name in heads and name not in knobs:
        options_named = list(override.sweep_iterator()) if override.is_sweep_override() and override.is_choice_sweep() else [value]
        for option in options_named:
            check_choice(name, _plain_word(option), typed_text, config_dir)
    if knob is not None and get_origin(bare(knob.type)) is list and isinstance(value, str | int | float):
        if override.is_sweep_override():
            return text
        head, _, tail = text.partition("=")
        return f"{head}=[{tail}]"
    if (knob is None or get_origin(bare(knob.type)) is dict) and _under_mapping(name, knobs) and not text.startswith("+"):
        return f"++{text}"  # Hydra knows no key of an empty mapping, unless it is told to add it
    return text


def _plain_word(value: Any) -> Any:
    """A value of Hydra's parser without its quotes, also inside a list."""
    if isinstance(value, list):
        return [_plain_word(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value


def value_of(text: str) -> str:
    """What an override gives a text parameter, without its quotes. Raises ConfigError where it cannot be read."""
    kept = as_typed(text, {k.path: k for k in all_knobs()})
    value = read_value(kept.partition("=")[2])
    if value is UNREADABLE:
        raise ConfigError(f"{text} cannot be read; quote it: '{text.partition('=')[0]}=\"...\"'.")
    return "" if value is None else str(value)


def _under_mapping(name: str, knobs: dict[str, Knob]) -> bool:
    return any(k is not None and get_origin(bare(k.type)) is dict for k in (knobs.get(name), knobs.get(name.rpartition(".")[0])))


def typed(config: DictConfig, overrides: Sequence[str]) -> Composed:
    """The typed run of a composed Hydra config, checked against every knob's bounds, its config-time knobs filled."""
    hydra = config.hydra
    choices = {k: str(v) for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra")}
    body = config.copy()
    with open_dict(body):
        body.pop("hydra")
    refuse_hydra_code(OmegaConf.to_container(hydra))
    _refuse_strangers(body)
    run = OmegaConf.to_object(body)
    if not isinstance(run, RunConfig):
        raise ConfigError("conf/train.yaml does not begin with /schema/run; restore that line.")
    for group in GROUPS:
        if group != "logger" and not isinstance(getattr(run, group), Option):
            raise ConfigError(f"No option is chosen for {group}; choose one: {', '.join(sorted(options(group)))}.")
    for name, logger in run.logger.items():
        if not isinstance(logger, Option):
            raise ConfigError(f"logger.{name} is set, and logger={name} is not chosen; choose it, or remove logger.{name}.")
    composed = Composed(run, choices, {}, list(overrides), multirun=str(hydra.mode) == "RunMode.MULTIRUN")
    said = {name_of(text) for text in overrides}
    import_plugins(run.plugins)
    for knob, value in settings(run):
        check(knob, value)
        refuse_secret(knob.path, str(value))
        value = _resolved(knob, value)
        value = {decoded_key(key): item for key, item in value.items()} if isinstance(value, dict) else value
        place(run, knob.path, value)
        composed.provenance[knob.path] = _origin(knob, value, said, choices)
        composed.warnings += _outside_usual(knob, value, run, composed.provenance[knob.path])
    check_quiet(run.watch.quiet)
    if run.name is not None and not NAME.fullmatch(run.name):
        raise ConfigError(f"name={run.name} is not allowed: use letters, digits, dot, dash and underscore, at most 64.")
    if run.name is None:
        run.name = "-".join((choices["stage"], choices["method"], choices["model"]))
        composed.provenance["name"] = Origin(run.name, "derived", "stage, method and model")
    if run.run_dir == "":
        raise ConfigError("run_dir= is empty; give a folder, or leave it out.")
    _expand_home(composed)
    job = hydra.job
    if composed.multirun and run.run_dir is not None and run.sweep.trial is None and not OmegaConf.is_missing(job, "num"):
        run.run_dir = str(Path(run.run_dir) / str(job.num))  # each of several runs in a folder of its own
        composed.provenance["run_dir"] = Origin(run.run_dir, "derived", "the folder that was given, and the job's number")
    if composed.multirun and run.run_dir is None:
        run.run_dir = str(Path(hydra.runtime.output_dir))
        composed.provenance["run_dir"] = Origin(run.run_dir, "derived", "the sweep's folder and the job's number")
    composed.fill(Facts(), "config")
    return composed


def _expand_home(composed: Composed) -> None:
    """Let `~` in the run's folder mean the home directory: not every shell replaces it behind `=`."""
    run, origins = composed.run, composed.provenance
    for path, folder in (("run_dir", run.run_dir), ("resume.run", run.resume.run)):
        if folder is not None and folder.startswith("~"):
            found = os.path.expanduser(folder)
            place(run, path, found)
            origins[path] = Origin(found, origins[path].origin, origins[path].reason)


def _resolved(knob: Knob, value: Any) -> Any:
    """The value with its relative paths made absolute, if the parameter holds paths."""
    if knob.resolve is None or not value:
        return value
    return [knob.resolve(word) for word in value] if isinstance(value, list) else knob.resolve(value)


def with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A config.yaml whose paths are absolute: those of earlier versions were kept as typed, relative to the folder of the command."""
    load_options()
    found = dict(config)
    for group in GROUPS:
        chosen = found.get(group)
        option = chosen.get("option") if isinstance(chosen, dict) else None
        cls = options(group).get(option) if isinstance(option, str) else None
        if cls is None or not isinstance(chosen, dict):
            continue
        paths = {knob.name: knob for knob in knobs_of(cls) if knob.resolve is not None}
        found[group] = {key: _resolved(paths[key], value) if key in paths and _is_text(value) else value for key, value in chosen.items()}
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(word, str) for word in value))


def _origin(knob: Knob, value: Any, said: set[str], choices: dict[str, str]) -> Origin:
    shown = plain(value)
    if knob.path in said or any(s.startswith(knob.path + ".") for s in said):
        return Origin(shown, "command line")
    if value == knob.default:
        return Origin(shown, "default", knob.empty.words if value is None and knob.empty else "")
    group = knob.path.partition(".")[0]
    presets = [f"{p}={choices[p]}" for p in PRESETS if choices.get(p, "None") != "None"]
    return Origin(shown, "preset", f"conf/{group}/{choices.get(group)}.yaml" if not presets else ", ".join(presets))


def _outside_usual(knob: Knob, value: Any, run: RunConfig, origin: Origin) -> Iterator[str]:
    usual = knob.usual_for(run) if value is not None and origin.origin in {"command line", "preset"} else None
    if not isinstance(usual, Range):
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool) and not usual.holds(item):
            yield f"{knob.path}={item} is outside what is usual here ({usual}). {knob.advice}"


def _refuse_strangers(config: DictConfig) -> None:
    """Raise where a node has a key that its type does not declare (Hydra opens a config for `+key`), or reads what it may not."""

    def walk(node: DictConfig, path: str) -> None:
        kind = OmegaConf.get_type(node)
        declared = {f.name for f in fields(kind)} if is_dataclass(kind) else None
        for key in map(str, node):
            name = f"{path}.{key}" if path else key
            if declared is not None and key not in declared:
                if (owners := _owners(name)):
                    raise ConfigError(f"{name} is not a knob of the chosen {path}; it belongs to {', '.join(owners)}.")
                near = did_you_mean(key, declared)
                raise ConfigError(f"There is no knob {name}.{near} Remove it, or correct its name.")
            child = node._get_node(key)
            if isinstance(child, ValueNode | ListConfig):
                refuse_resolver(name, str(OmegaConf.to_container(child)) if isinstance(child, ListConfig) else str(child._value()))
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                walk(child, name)

    walk(config, "")


def _owners(name: str) -> list[str]:
    """The options that have a parameter of this path."""
    return sorted({f"{k.group}={k.option}" for k in all_knobs() if k.path == name and k.option})


def explained(error: Exception, overrides: Sequence[str]) -> RequestError:
    """Hydra's or OmegaConf's error as one sentence of ours, with the value, the place and the remedy."""
    knobs = {k.path: k for k in all_knobs()}
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 8:
        chain.append(link)
        link = link.__cause__ or link.__context__
    text = " ".join(str(e) for e in chain)
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name in groups() and (f"{name}/{value}" in text or f"'{name}/" in text):
            return ConfigError(f"There is no {name}={value}.{did_you_mean(value, named(name))} "
                               f"There are: {', '.join(named(name))}.")
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if name in knobs and f"'{name}'" in text and "Could not override" in text:
            return ConfigError(f"{name} is not a knob of the chosen {name.partition('.')[0]}; it belongs to {', '.join(_owners(name))}.")
        if name in knobs and (name in text or name.rpartition(".")[2] in text):
            same = {knob.type: options(knob.group).get(knob.option) for knob in all_knobs() if knob.path == name}
            kind = type_words(next((t for t, cls in same.items() if cls and f"object_type={cls.__name__}" in text), knobs[name].type))
            if "Enum" in text or "convert" in text or "ValidationError" in text or "not Optional" in text or "merging" in text:
                return ConfigError(f"{name}={value} is not allowed: it must be {_article(kind)}.")
    if "Ambiguous value for argument" in text:
        word = text.partition("argument '")[2].partition("'")[0]
        return ConfigError(f"{word} has several values: add -m to run each of them, or write [...] where a list is meant.")
    first = " ".join(str(chain[0]).split())
    return ConfigError(f"The configuration cannot be composed: {first[:300]}")


def _article(kind: str) -> str:
    return kind if kind.startswith(("one of", "true", "text", "list", "mapping")) else f"a {kind}"


def rebuilt(config: dict[str, Any], allowed: Allowed | None = None, folder: Path | None = None) -> RunConfig:
    """The typed run of a config.yaml, as `Composed.config` wrote it. Raises ConfigError where an option is not there.

    The file may come from anywhere, so it lets no code run: its plug-ins are imported and its model's code is trusted only as
    `allowed` by the command line of now. What is left out is said once.
    """
    allowed, place = allowed or Allowed(), f"{folder}/config.yaml" if folder else "The run's config.yaml"
    register(allowed.plugins)
    asked = config.get("plugins") or ()
    left = [str(m) for m in asked if m not in IMPORTED] if isinstance(asked, list) else []
    hint = f" It asks for plugins=[{','.join(left)}], which is imported only if this command line says so." if left else ""
    run = RunConfig()
    try:
        for name, value in (EARLIER | config).items():
            if name == "logger":
                run.logger = {key: _option("logger", item) for key, item in value.items()}
            elif name in GROUPS:
                setattr(run, name, _option(name, value))
            elif name in OWN:
                setattr(run, name, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(OWN[name]), literal(value))))
            else:
                setattr(run, name, value)
    except (OmegaConfBaseException, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{place} cannot be read by this version: {' '.join(str(error).split())[:200]}.{hint}") from error
    if left:
        run.plugins = [module for module in asked if module in IMPORTED]
        _say_once(f"warning: {place} asks for plugins=[{','.join(left)}], which was not imported; to allow it, add those words here.")
    _trust_anew(run, allowed, place)
    return run


def _trust_anew(run: RunConfig, allowed: Allowed, place: str) -> None:
    """Let the model's own code run only as `allowed`, under the pin that was typed with it."""
    model = run.model
    if not getattr(model, "trust_remote_code", False):
        return
    if allowed.model_code:
        model.revision = allowed.revision
        return
    model.trust_remote_code = False
    model.revision = None if str(model.revision).startswith("sha256:") else model.revision
    _say_once(
        f"warning: {place} lets the code in {model.path} run (model.trust_remote_code=true), which does not count here; to allow it, "
        "read the code, then add model.trust_remote_code=true and model.revision=<its pin>."
    )


@functools.cache
def _say_once(text: str) -> None:
    say(text)


def _option(group: str, values: dict[str, Any]) -> Any:
    cls = options(group)[values["option"]]
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), {k: literal(v) for k, v in values.items() if k != "option"}))
