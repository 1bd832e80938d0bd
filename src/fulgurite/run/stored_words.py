"""Reads the command line words of the run that `resume.run=` names."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from fulgurite.config.guard import refuse_stored_code
from fulgurite.config.override_checks import read_text_value
from fulgurite.config.override_names import read_name
from fulgurite.config.overrides import quote_verbatim
from fulgurite.config.renamed import refuse_renamed, rename_keys, rename_words
from fulgurite.config.run import list_all_knobs
from fulgurite.errors import CheckpointError


def restore_words(overrides: list[str]) -> list[str]:
    """Returns the overrides of the run that `resume.run=` names, followed by those given now, which win.

    Paths come from the run's config, in which they are absolute: its command line may have been typed in another
    folder.
    """
    folder = next((read_text_value(o) for o in overrides if read_name(o) == "resume.run"), "")
    if not folder:
        return overrides
    refuse_renamed(overrides)
    kept = read_stored_words(Path(folder).expanduser(), folder, {read_name(o) for o in overrides})
    return refuse_stored_code(kept, [*overrides, "run_dir="], folder) + overrides


def read_stored_words(folder: Path, shown: str = "", given: Collection[str] = ()) -> list[str]:
    """Returns the overrides of the run in a folder under the names of today, with absolute paths but for those of
    `given` parameters and groups.

    Raises CheckpointError, in which the folder is called `shown`, if they cannot be read.
    """
    stored = folder / "provenance.json"
    try:
        found = json.loads(stored.read_text(encoding="utf-8"))
        before = rename_words([str(word) for word in found["overrides"]])
        paths = _list_paths(rename_keys(found["knobs"], found.get("choices") or {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            "resume.run={path} is not a run folder: {file} cannot be read; `fulgurite runs` lists runs.",
            path=shown or folder, file=stored,
        ) from error
    fresh = {name: word for name, word in paths.items() if not {name, name.partition(".")[0]} & {*given}}
    return [o for o in before if read_name(o) not in fresh] + list(fresh.values())


def _list_paths(knobs: dict[str, dict[str, object]]) -> dict[str, str]:
    """Returns for each parameter that has absolute paths in an earlier run the override that gives them again."""
    found = {}
    for name in {knob.path for knob in list_all_knobs() if knob.resolve is not None} & knobs.keys():
        value = knobs[name]["value"]
        words = value if isinstance(value, list) else [value]
        if any(isinstance(word, str) and Path(word.rpartition(":")[0] or word).is_absolute() for word in words):
            whole = ",".join(quote_verbatim(word) for word in words)
            found[name] = f"{name}=[{whole}]" if isinstance(value, list) else f"{name}={whole}"
    return found
