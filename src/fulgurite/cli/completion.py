"""Tab completion: `eval "$(fulgurite -sc install=bash)"`. Hydra completes groups and knobs; the subcommand is ours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence


def completion_main(words: Sequence[str], commands: Iterable[str]) -> int:
    """Answer Hydra's `install=SHELL`, `uninstall=SHELL` or `query=SHELL`. Returns 0.

    Hydra knows no subcommands: it is shown `fulgurite NAME...` if the person has typed `fulgurite train NAME...`.
    """
    from fulgurite.config.hydra_app import complete

    if not any(word.startswith("query=") for word in words):
        return complete(words)
    app, *typed = os.environ.get("COMP_LINE", "").lstrip().split(" ")
    command, *rest = typed or [""]
    if not rest:
        print(" ".join(name for name in commands if name.startswith(command)))
        return 0
    if command not in ("train", "plan"):
        return 0
    before = os.environ["COMP_LINE"]
    os.environ["COMP_LINE"] = " ".join([app, *rest])
    try:
        return complete(words)
    finally:
        os.environ["COMP_LINE"] = before
