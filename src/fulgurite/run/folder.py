"""Chooses and makes the folder of a run, and reads and writes its config.yaml and provenance.json."""

from __future__ import annotations

import datetime
import json
import tempfile
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
from fulgurite.language.library_errors import translate_system_error


def choose_run_folder(name: str | None, run_dir: str | None, resumed: str | None) -> Path:
    """Returns the folder of a run: the resumed one, the given one, or a new one under runs/<date>/."""
    if resumed is not None:
        return Path(resumed)
    return Path(run_dir) if run_dir is not None else claim_run_folder(Path("runs"), name)


def claim_run_folder(root: Path, name: str | None) -> Path:
    """Makes a new folder `<root>/<date>/<time>_<name>`. Raises RequestError."""
    now = datetime.datetime.now()
    return claim_folder(root / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}_{name}")


def claim_folder(first: Path) -> Path:
    """Makes a new folder of this name, or of the name and a number if it exists. Raises RequestError."""
    # mkdir without exist_ok claims a name: two runs that start in the same second get different folders
    for n in range(1, 1000):
        folder = first if n == 1 else first.with_name(f"{first.name}-{n}")
        try:
            folder.mkdir(PRIVATE_FOLDER, parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _build_folder_error(folder, error) from error
        return folder
    raise RequestError("{path} and 999 similar folders exist already; give run_dir=<folder>.", path=first)


def make_folder(folder: Path) -> None:
    """Makes the folder. Raises RequestError if that fails."""
    try:
        folder.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise _build_folder_error(folder, error) from error


def refuse_unwritable(folder: Path) -> None:
    """Raises RequestError if a folder cannot be made or written. Leaves nothing behind."""
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        # os.access is no answer: root may write everywhere, but not in /proc or on a read-only disk
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        raise _build_folder_error(folder, error) from error


def _build_folder_error(folder: Path, error: OSError) -> RequestError:
    return RequestError(
        "{path} cannot be created: {reason}; give run_dir=<a folder that can be written>.",
        path=folder, reason=translate_system_error(error),
    )


def write_run(folder: Path, composed: Composed) -> None:
    """Writes config.yaml (values) and provenance.json (the origin of each value, the overrides, the choices)."""
    from omegaconf import OmegaConf

    knobs = {name: decision.to_json(to_plain(decision.value)) for name, decision in composed.provenance.items()}
    origin = {"overrides": composed.overrides, "choices": composed.choices, "knobs": knobs}
    write_output(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(escape_literal(composed.dump_config()))))
    write_output(folder / "provenance.json", json.dumps(origin, indent=1, ensure_ascii=False) + "\n")


def read_provenance(folder: Path) -> dict[str, Any]:
    """Reads provenance.json of a run. Raises RequestError if it is missing or damaged."""
    try:
        found: dict[str, Any] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        if isinstance(found.get("knobs"), dict):
            found["knobs"] = rename_keys(found["knobs"], found.get("choices") or {})
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(
            "{path} is not a run folder: {file} cannot be read; `fulgurite runs` lists runs.",
            path=folder, file="provenance.json",
        ) from error
    return found


def read_decisions(folder: Path) -> dict[str, Decision]:
    """Reads the decisions of a run. Raises RequestError if provenance.json is missing, or has other entries."""
    try:
        knobs = read_provenance(folder)["knobs"]
        return {name: read_decision(name, stored) for name, stored in knobs.items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(
            "{path}/provenance.json is damaged; restore it, or start again in another run_dir.", path=folder
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Reads config.yaml of a run as plain values. Raises RequestError if it is missing or damaged."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        found = unescape(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise RequestError(
            "{path} is not a run folder: {file} cannot be read; `fulgurite runs` lists runs.",
            path=folder, file="config.yaml",
        ) from error
    if not isinstance(found, dict):
        raise RequestError(
            "{path}/config.yaml is not a mapping; restore it, or start again in another run_dir.", path=folder
        )
    load_options()
    named = add_strategy(rename_config({str(key): value for key, value in found.items()}))
    return make_paths_absolute(add_defaults(_upgrade(EARLIER | named, folder)))


def _upgrade(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Adapts a config of an earlier version: `stage.length_normalize` was false by default, and ipo, which takes means,
    ignored it."""
    stage = config.get("stage")
    if not isinstance(stage, dict) or stage.get("option") != "dpo" or stage.get("length_normalize") is not False:
        return config
    try:
        default = read_provenance(folder)["knobs"]["stage.length_normalize"]["origin"] == "default"
    except (RequestError, KeyError, TypeError):
        default = False
    meant = {"sigmoid": False, "ipo": default}.get(str(stage.get("loss")))
    return config | {"stage": stage | {"length_normalize": meant}}
