"""The README's generated tables: `python -m fulgurite.explain.readme [--check]` writes them between their marks."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fulgurite.config.run import load_options
from fulgurite.explain import bytes_per_weight as sizes
from fulgurite.explain import compatibility as pairs

README = Path(__file__).resolve().parents[3] / "README.md"
MARK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.S)


def format_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def build_trained() -> str:
    """Bytes a trained weight: optimizer against compute type."""
    return format_markdown(["optimizer", *sizes.list_compute_types()], list(sizes.build_trained_table()))


def build_frozen() -> str:
    """Bytes a frozen weight: method against compute type."""
    return format_markdown(["method", *sizes.list_compute_types()], list(sizes.build_frozen_table()))


def build_matrices() -> str:
    """Which options work together."""
    parts = []
    for rows, columns in (("optim", "method"), ("method", "precision"), ("optim", "precision")):
        head, body, sentences = pairs.build_matrix(rows, columns)
        parts.append(format_markdown([f"{rows} × {columns}", *head[1:]], body))
        parts.append(
            "\n".join(f"{n}. {sentence}" for n, sentence in enumerate(sentences, 1)) + "\n" if sentences else ""
        )
    found = list(pairs.list_pairs())
    refused = sum(said is not None for _, said in found)
    return f"{len(found)} pairs: {len(found) - refused} work, {refused} are refused.\n\n" + "\n".join(
        p for p in parts if p
    )


TABLES: dict[str, Callable[[], str]] = {"trained": build_trained, "frozen": build_frozen, "pairs": build_matrices}


def refresh(text: str) -> str:
    """The README with its tables made anew. Raises KeyError for a mark that no table has."""
    return MARK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main(words: list[str]) -> int:
    """Write the tables, or with --check say that they are stale; returns 1 then."""
    load_options()
    text = README.read_text(encoding="utf-8")
    new = refresh(text)
    if new == text:
        return 0
    if "--check" in words:
        print("Stale tables in the README: run python -m fulgurite.explain.readme.")
        return 1
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
