"""Which options work together: every pair of a method, a compute type and an optimizer, from the options' own
refusals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from fulgurite.config.schema import list_options
from fulgurite.explain.bytes_per_weight import list_compute_types
from fulgurite.explain.knob_index import build_default_run

GROUPS = ("method", "precision", "optim")
STAYS = {"scheduler": "constant", "method": "full"}
"""What every optimizer bears, so that only the pair speaks."""


def list_names(group: str) -> list[str]:
    """The options of a group that make pairs: `precision=auto` is one of the others."""
    return list_compute_types() if group == "precision" else list(list_options(group))


def find_refusal(**chosen: str) -> str | None:
    """Why these options cannot be in one run, in a sentence, or None; asked of the options, as `train` asks them."""
    run = build_default_run(**(STAYS | chosen))
    for group in GROUPS:
        if (sentence := getattr(run, group).find_refusal(run)) is not None:
            return str(sentence)
    return None


def list_pairs() -> Iterator[tuple[dict[str, str], str | None]]:
    """Every pair with its refusal."""
    for one, two in combinations(GROUPS, 2):
        for a in list_names(one):
            for b in list_names(two):
                yield {one: a, two: b}, find_refusal(**{one: a, two: b})


def build_matrix(rows: str, columns: str) -> tuple[list[str], list[list[str]], list[str]]:
    """A heading, rows of `yes`, `GPU` or a number, and the numbered sentences: two groups against each other."""
    sentences: list[str] = []
    out = []
    for a in list_names(rows):
        row = [a]
        for b in list_names(columns):
            refusal = find_refusal(**{rows: a, columns: b})
            if refusal is None:
                row.append("GPU" if "fp16" in (a, b) else "yes")
                continue
            # without the names of this row and column, equal reasons share one number
            general = refusal.replace(f"{rows}={a}", f"this {rows}").replace(f"{columns}={b}", f"this {columns}")
            if general not in sentences:
                sentences.append(general)
            row.append(f"no ({sentences.index(general) + 1})")
        out.append(row)
    return ["", *list_names(columns)], out, sentences
