"""Which options work together: every pair of a method, a compute type and an optimizer, from the options' own
refusals."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Option, options
from fulgurite.explain.bytes_per_weight import compute_types
from fulgurite.explain.knob_index import default_run

GROUPS = ("method", "precision", "optim")
STAYS = {"scheduler": "constant", "method": "full"}
"""What every optimizer bears, so that only the pair speaks."""


def names(group: str) -> list[str]:
    """The options of a group that make pairs: `precision=auto` stands for one of the others."""
    return compute_types() if group == "precision" else list(options(group))


def refusal(**chosen: str) -> str | None:
    """Why these options cannot be in one run, in a sentence, or None; asked of the options, as `train` asks them."""
    run = default_run(**(STAYS | chosen))
    for option in of(run):
        if (sentence := option.refusal(run)) is not None:
            return sentence
    return None


def of(run: RunConfig) -> Iterator[Option]:
    """The options of a run in the groups that make pairs."""
    yield from (getattr(run, group) for group in GROUPS)


def pairs() -> Iterator[tuple[dict[str, str], str | None]]:
    """Every pair with its refusal."""
    for one, two in combinations(GROUPS, 2):
        for a in names(one):
            for b in names(two):
                yield {one: a, two: b}, refusal(**{one: a, two: b})


def matrix(rows: str, columns: str) -> tuple[list[str], list[list[str]], list[str]]:
    """A heading, rows of `yes`, `GPU` or a number, and the numbered sentences: two groups against each other."""
    sentences: list[str] = []
    out = []
    for a in names(rows):
        row = [a]
        for b in names(columns):
            said = refusal(**{rows: a, columns: b})
            if said is None:
                row.append("GPU" if "fp16" in (a, b) else "yes")
                continue
            general = said.replace(f"{rows}={a}", f"this {rows}").replace(f"{columns}={b}", f"this {columns}")
            if general not in sentences:
                sentences.append(general)
            row.append(f"no ({sentences.index(general) + 1})")
        out.append(row)
    return ["", *names(columns)], out, sentences
