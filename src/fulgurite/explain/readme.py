"""Writes the generated tables of the README and of pages in docs: `python -m fulgurite.explain.readme [--check]`.

A page marks the place of a table with `<!-- made: NAME -->` and `<!-- end -->`; NAME is a key of TABLES.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

from fulgurite.config.losses import list_losses
from fulgurite.config.run import GROUPS, load_options
from fulgurite.config.schema import list_knobs, list_options
from fulgurite.explain import bytes_per_weight as sizes
from fulgurite.explain import compatibility as pairs
from fulgurite.explain.choices import list_presets

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("README.md", "docs/architecture.md", "docs/compatibility.md", "docs/memory.md")
MARK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.S)


def format_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def format_names(names: Sequence[str]) -> str:
    """Formats names as code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def build_options() -> str:
    """Lists the options of each group; a group's presets follow its options."""
    rows = []
    for group in GROUPS:
        names = [*list_options(group), *(preset.name for preset in list_presets(group))]
        rows.append([f"`{group}`", format_names(names)])
    return format_markdown(["group", "options"], rows)


def build_losses() -> str:
    """Lists the losses that `stage.loss` takes under each stage that has the parameter."""
    rows = []
    for name, stage in list_options("stage").items():
        default = next((knob.default for knob in list_knobs(stage) if knob.name == "loss"), None)
        if default is not None:
            # a stage either has a table of losses, to which packages may add, or an enumeration of its own
            losses = [member.value for member in type(default)] if isinstance(default, Enum) else [*list_losses(name)]
            rows.append([f"`stage={name}`", format_names(losses)])
    return format_markdown(["stage", "`stage.loss`"], rows)


def build_trained() -> str:
    """Lists the bytes of a trained weight: optimizer against compute type."""
    return format_markdown(["optimizer", *sizes.list_compute_types()], list(sizes.build_trained_table()))


def build_frozen() -> str:
    """Lists the bytes of a frozen weight: method against compute type."""
    return format_markdown(["method", *sizes.list_compute_types()], list(sizes.build_frozen_table()))


def build_matrices() -> str:
    """Shows which methods, optimizers and compute types work together."""
    parts = []
    for rows, columns in (("optim", "method"), ("method", "precision"), ("optim", "precision")):
        head, body, sentences = pairs.build_matrix(rows, columns)
        parts.append(format_markdown([f"{rows} × {columns}", *head[1:]], body))
        if sentences:
            parts.append("\n".join(f"{n}. {sentence}" for n, sentence in enumerate(sentences, 1)) + "\n")
    found = list(pairs.list_pairs())
    refused = sum(refusal is not None for _, refusal in found)
    return f"{len(found)} pairs: {len(found) - refused} work, {refused} are refused.\n\n" + "\n".join(parts)


def build_layers() -> str:
    """Lists the packages from top to bottom, one layer a line, as import-linter's contract has them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return "```\n" + "\n".join(layer.replace(" : ", " ") for layer in layers) + "\n```\n"


TABLES: dict[str, Callable[[], str]] = {
    "options": build_options, "losses": build_losses, "trained": build_trained, "frozen": build_frozen,
    "pairs": build_matrices, "layers": build_layers,
}


def refresh(text: str) -> str:
    """Returns a page with its tables made anew. Raises KeyError for a mark that has no table."""
    return MARK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main(words: list[str]) -> int:
    """Writes the tables; with --check only names the stale pages, and returns 1 if there are any."""
    load_options()
    stale = []
    for name in PAGES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = refresh(text)
        if new == text:
            continue
        stale.append(name)
        if "--check" not in words:
            path.write_text(new, encoding="utf-8")
    if stale and "--check" in words:
        print(f"Stale tables in {', '.join(stale)}: run python -m fulgurite.explain.readme.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
