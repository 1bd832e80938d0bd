"""`fulgurite runs`: the runs under one or more folders as a table, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fulgurite.cli.parser import parse
from fulgurite.errors import ConfigError
from fulgurite.language.message import message
from fulgurite.run.listing import format_runs, list_runs
from fulgurite.text.console import show


def runs_main(words: Sequence[str]) -> int:
    """Prints the runs; returns 0. Raises ConfigError."""
    given = parse("runs", words)
    folders = read_folders(given.words)
    if not folders and not Path("runs").is_dir():
        print("[]" if given.json else message("No runs here yet; `fulgurite train` writes them to the folder runs."))
        return 0
    runs = list_runs(*folders or ["runs"])
    if given.json:
        print(json.dumps([run.to_json() for run in runs], indent=1, default=str))
    else:
        show(format_runs(runs))
    return 0


def read_folders(words: Sequence[str]) -> list[str]:
    """Returns the folders of the command line: `FOLDER`, `dir=FOLDER` and `dir=[FOLDER,FOLDER]`.

    Raises ConfigError for another `name=value`; a folder with such a name needs `./` before it.
    """
    folders = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name == "dir":
            folders += [folder.strip("'\" ") for folder in value.strip("[]").split(",") if folder.strip("'\" ")]
        elif equals and "/" not in name:
            raise ConfigError(
                "fulgurite runs has no parameter {name}; give folders: `fulgurite runs dir=FOLDER`.", name=name
            )
        else:
            folders.append(word)
    return [str(Path(folder).expanduser()) for folder in folders]
