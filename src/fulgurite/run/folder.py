"""A run's folder: where it lies, who claims it, and the files that say what was run."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from fulgurite.config.decision import Decision, read_decision
from fulgurite.config.overrides import escape_literal, unescape
from fulgurite.config.provenance import Composed, to_plain
from fulgurite.config.renamed import rename_config, rename_keys
from fulgurite.config.run import EARLIER, load_options
from fulgurite.config.stored import add_defaults, add_strategy, make_paths_absolute
from fulgurite.errors import RequestError
from fulgurite.files.atomic import PRIVATE_FOLDER, write_output


def choose_run_folder(name: str | None, run_dir: str | None, resumed: str | None) -> Path:
    """The run's folder: resumed, given, or a new one under runs/<date>/ that no other run has."""
    if resumed is not None:
        return Path(resumed)
    if run_dir is not None:
        return Path(run_dir)
    now = datetime.datetime.now()
    first = Path("runs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}_{name}"
    for n in range(1, 1000):
        folder = first if n == 1 else first.with_name(f"{first.name}-{n}")
        try:
            folder.mkdir(PRIVATE_FOLDER, parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RequestError(
                f"{folder} cannot be made: {error.strerror}; give run_dir=<a folder that can be written>."
            ) from error
        return folder
    raise RequestError(f"{first} and 999 more are taken; give run_dir=<folder>.")


def make_folder(folder: Path) -> None:
    """Make the folder. Raises RequestError in one sentence where that cannot be."""
    try:
        folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be made: {error.strerror}; give run_dir=<a folder that can be written>."
        ) from error


def write_run(folder: Path, composed: Composed) -> None:
    """Write config.yaml (values) and provenance.json (where each came from, the overrides, the choices)."""
    from omegaconf import OmegaConf

    knobs = {name: decision.to_json(to_plain(decision.value)) for name, decision in composed.provenance.items()}
    origin = {"overrides": composed.overrides, "choices": composed.choices, "knobs": knobs}
    write_output(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(escape_literal(composed.dump_config()))))
    write_output(folder / "provenance.json", json.dumps(origin, indent=1, ensure_ascii=False) + "\n")


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a run. Raises RequestError where it is not there or not whole."""
    try:
        found: dict[str, Any] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        if isinstance(found.get("knobs"), dict):
            found["knobs"] = rename_keys(found["knobs"], found.get("choices") or {})
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(
            f"{folder} is not a run's folder: provenance.json cannot be read; `fulgurite runs` lists runs."
        ) from error
    return found


def read_decisions(folder: Path) -> dict[str, Decision]:
    """The decisions of a run. Raises RequestError if provenance.json is not there, or has other entries."""
    try:
        knobs = read_provenance(folder)["knobs"]
        return {name: read_decision(name, stored) for name, stored in knobs.items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{folder}/provenance.json is not whole; restore it, or start afresh in another run_dir."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml of a run as plain values. Raises RequestError where it is not there or not whole."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        found = unescape(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise RequestError(
            f"{folder} is not a run's folder: config.yaml cannot be read; `fulgurite runs` lists runs."
        ) from error
    if not isinstance(found, dict):
        raise RequestError(f"{folder}/config.yaml is not a mapping; restore it, or start afresh in another run_dir.")
    load_options()
    named = add_strategy(rename_config({str(key): value for key, value in found.items()}))
    return make_paths_absolute(add_defaults(_upgrade(EARLIER | named, folder)))


def _upgrade(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A config of an earlier version: `stage.length_normalize` was false by default, which ipo did not read (it took
    means).
    """
    stage = config.get("stage")
    if not isinstance(stage, dict) or stage.get("option") != "dpo" or stage.get("length_normalize") is not False:
        return config
    try:
        default = read_provenance(folder)["knobs"]["stage.length_normalize"]["origin"] == "default"
    except (RequestError, KeyError, TypeError):
        default = False
    meant = {"sigmoid": False, "ipo": default}.get(str(stage.get("loss")))
    return config | {"stage": stage | {"length_normalize": meant}}
