"""Draws docs/run.svg from a run folder: `python -m benchmarks.picture RUN [--prompt TEXT ...]`.

Without RUN it prints the word `stage.prompts=[...]` with all held-out questions that have an answer of this form:

    fulgurite train run_dir=runs/picture "$(python -m benchmarks.picture)"
    python -m benchmarks.picture runs/picture

The picture has the losses of the run and counts of the form of its sample answers, before and after: whether an answer
ends by itself, and whether it names the command that explains more. A model of 135M learns the form and few facts, so
an answer itself is drawn only if --prompt names its prompt; read it first, and choose one whose content is right.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fulgurite.data.guide.questions import HELD_OUT

WIDE, EDGE, LINE = 860, 48, 20
PLOT_HIGH = 220
COLUMN = 43
"""Characters in one of the two columns of answers."""
COMMAND = re.compile(r"See `fulgurite explain [\w.=]+`\.?$")
INK, FAINT, TRAIN, VALIDATION = "#e6edf3", "#8b949e", "#f59e0b", "#38bdf8"


@dataclass(frozen=True)
class Form:
    """What the answers of one step look like."""

    answers: int
    stopped: int
    commands: int
    words: float

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Form:
        """Counts the answers of samples.jsonl."""
        texts = [str(row["answer"]).strip() for row in rows]
        return cls(
            len(rows), sum(bool(row["stopped"]) for row in rows), sum(bool(COMMAND.search(text)) for text in texts),
            statistics.median(len(text.split()) for text in texts),
        )


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def list_prompts() -> list[str]:
    """Lists the held-out questions whose answers name the command that explains more.

    Questions about one parameter are left out: there are many of one wording.
    """
    records = [record["messages"] for record in read_lines(HELD_OUT)]
    questions = {turns[0]["content"]: turns[-1]["content"] for turns in records if len(turns) == 2}
    return [q for q, answer in questions.items() if COMMAND.search(answer) and not q.startswith("Explain the knob")]


def draw_text(x: float, y: float, text: str, colour: str = INK, size: int = 14, anchor: str = "start") -> str:
    """Draws one line of text."""
    at = f'x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {at} fill="{colour}" xml:space="preserve">{escape(text)}</text>'


def draw_losses(metrics: Sequence[dict[str, Any]], top: float) -> list[str]:
    """Draws the training loss as a line and the validation loss as points on a line."""
    curves = {
        "training loss": (TRAIN, [(m["step"], m["train/loss"]) for m in metrics if "train/loss" in m]),
        "validation loss": (VALIDATION, [(m["step"], m["val/loss"]) for m in metrics if "val/loss" in m]),
    }
    every = [point for _, points in curves.values() for point in points]
    last, low, high = max(x for x, _ in every), min(y for _, y in every), max(y for _, y in every)

    def place(step: float, loss: float) -> tuple[float, float]:
        across = EDGE + step / last * (WIDE - 2 * EDGE)
        return across, top + (high - loss) / ((high - low) or 1) * PLOT_HIGH

    axis = f"M{EDGE} {top:.0f}V{top + PLOT_HIGH:.0f}H{WIDE - EDGE}"
    parts = [f'<path d="{axis}" fill="none" stroke="{FAINT}"/>']
    parts += [draw_text(EDGE - 6, place(0, loss)[1] + 5, f"{loss:.1f}", FAINT, 12, "end") for loss in (low, high)]
    parts.append(draw_text(WIDE - EDGE, top + PLOT_HIGH + 18, f"step {last}", FAINT, 12, "end"))
    for n, (name, (colour, points)) in enumerate(curves.items()):
        places = [place(*point) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(places) < 20:  # a few evaluations are visible as points
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        label = f"{name} {points[0][1]:.2f} → {points[-1][1]:.2f}"
        parts.append(draw_text(WIDE - EDGE, top + 16 + LINE * n, label, colour, 14, "end"))
    return parts


def draw_form(before: Form, after: Form, top: float) -> list[str]:
    """Draws the table of the form of the answers."""
    rows = [
        (f"{after.answers} questions that were not trained", "before", "after"),
        ("answers that end by themselves", str(before.stopped), str(after.stopped)),
        ("answers that end with the command that explains more", str(before.commands), str(after.commands)),
        ("words of an answer (median)", f"{before.words:g}", f"{after.words:g}"),
    ]
    parts = []
    for n, (what, one, two) in enumerate(rows):
        y, head = top + (LINE + 4) * n, n == 0
        parts.append(draw_text(EDGE, y, what, FAINT if head else INK))
        parts.append(draw_text(WIDE - EDGE - 120, y, one, FAINT, 14, "end"))
        parts.append(draw_text(WIDE - EDGE, y, two, FAINT if head else TRAIN, 14, "end"))
    return parts


def draw_answers(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], top: float) -> tuple[list[str], float]:
    """Draws chosen answers before and after beside each other; returns the drawing and where it ends."""
    parts, y = [], top
    for before, after in pairs:
        parts.append(draw_text(EDGE, y, f"> {before['prompt']}"))
        columns = [
            textwrap.wrap(str(row["answer"]).strip() + ("" if row["stopped"] else " …"), COLUMN)
            for row in (before, after)
        ]
        for x, colour, lines in zip((EDGE, WIDE / 2 + 8), (FAINT, INK), columns, strict=True):
            parts += [draw_text(x, y + LINE * (n + 1), line, colour) for n, line in enumerate(lines)]
        y += LINE * (max(map(len, columns)) + 2)
    return parts, y


def draw(run: Path, prompts: Sequence[str] = (), title: str = "make run") -> str:
    """Draws the run as SVG. Raises ValueError if there are no answers, or none to a prompt that is asked for."""
    metrics, samples = read_lines(run / "metrics.jsonl"), read_lines(run / "samples.jsonl")
    steps = sorted({row["step"] for row in samples})
    if len(steps) < 2:
        raise ValueError(f"{run} has no answers before and after.")
    first, last = ({row["prompt"]: row for row in samples if row["step"] == step} for step in (steps[0], steps[-1]))
    if missing := [prompt for prompt in prompts if prompt not in last]:
        raise ValueError(f"{run} has no answer to {missing}; it has: {list(last)}")
    parts = [draw_text(EDGE, 34, f"$ {title}", size=16), *draw_losses(metrics, 60)]
    parts += draw_form(Form.of([*first.values()]), Form.of([*last.values()]), PLOT_HIGH + 112)
    below = PLOT_HIGH + 112 + 4 * (LINE + 4) + 12
    answers, below = draw_answers([(first[prompt], last[prompt]) for prompt in prompts], below)
    parts += answers
    note = "It learns the form of the answers. Their content is often wrong."
    parts.append(draw_text(EDGE, below + 4, note, FAINT, 13))
    high = below + 28
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high:.0f}" role="img" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace">'
    )
    name = "<title>The losses of a run, and the form of its answers before and after</title>"
    ground = f'<rect width="{WIDE}" height="{high:.0f}" rx="8" fill="#0d1117"/>'
    return "\n".join([head, name, ground, *parts, "</svg>", ""])


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--prompt", action="append", default=[], help="a prompt whose two answers are shown")
    parser.add_argument("--title", default="make run")
    parser.add_argument("--out", type=Path, default=Path("docs/run.svg"))
    given = parser.parse_args()
    if given.run is None:
        print(f"stage.prompts={json.dumps(list_prompts())}")
        return
    given.out.write_text(draw(given.run, given.prompt, given.title), encoding="utf-8")


if __name__ == "__main__":
    main()
