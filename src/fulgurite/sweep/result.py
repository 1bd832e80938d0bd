"""What a search found: a table, each knob's importance, the course of the best value; files beside the trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fulgurite.config.sweep import Sweep
from fulgurite.files.atomic import write_output
from fulgurite.language.message import message
from fulgurite.sweep.spaces import SPACES
from fulgurite.text.layout import count_cells
from fulgurite.text.plot import Figure, draw_svg, draw_text

SHOWN, BAR = 10, 30
"""Rows of the table, and the columns of the longest bar."""


def write(study: Any, sweep: Sweep, folder: Path) -> None:
    """trials.jsonl, a line a trial, and sweep.svg, the value of each trial and the best so far."""
    lines = [
        {
            "trial": t.number,
            "state": t.state.name.lower(),
            "value": t.value if t.state.name == "COMPLETE" else None,
            "values": t.params,
            "why": t.user_attrs.get("why", ""),
            "folder": t.user_attrs.get("folder", str(t.number)),
            "evaluations": t.intermediate_values,
        }
        for t in study.get_trials(deepcopy=False)
    ]
    write_output(folder / "trials.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    if (figure := build_course(study, sweep)) is not None:
        write_output(folder / "sweep.svg", draw_svg(figure))


def format_result(study: Any, sweep: Sweep, folder: Path, shared: list[str], preset: str) -> str:
    """What a person reads at the end, with the command that trains with the best values."""
    trials = study.get_trials(deepcopy=False)
    own = [t.state.name for t in trials if not t.user_attrs.get("again")]
    counts = message(
        "{study}: {complete} trials complete, {pruned} ended early, {failed} failed",
        study=sweep.study, complete=own.count("COMPLETE"), pruned=own.count("PRUNED"), failed=own.count("FAIL"),
    )
    if "RUNNING" in own:
        counts = message("{counts}, {running} run elsewhere", counts=counts, running=own.count("RUNNING"))
    lines = [f"\n{counts}"]
    better = rank_trials(study, sweep)
    if not better:
        return lines[0]
    lines += ["", *format_table(better[:SHOWN], sweep)]
    if shares := compute_importance(study):
        widest = max(map(len, shares))
        lines += [
            "",
            str(message(
                "what {metric} depends on (PED-ANOVA over {count} complete trials; little is known from few trials):",
                metric=sweep.metric, count=len(better),
            )),
        ]
        lines += [f"  {name:<{widest}} {share:>5.0%} {'█' * round(share * BAR)}" for name, share in shares.items()]
    if (figure := build_course(study, sweep)) is not None:
        lines += ["", draw_text(figure, height=8)]
    best = study.best_trial
    choices = SPACES[preset].choices if preset in SPACES else {}
    chosen = [f"{g}={o}" for g, o in choices.items() if not any(w.startswith(f"{g}=") for w in shared)]
    command = [*chosen, *(w for w in shared if w != "stage.prompts=[]"), *(f"{k}={v}" for k, v in best.params.items())]
    lines += [
        "",
        f"fulgurite train {' '.join(command)}",
        str(message(
            "trains with these values again; trial {number} is in {place}. All trials: {table}, {figure}",
            number=best.number, place=find_run_folder(best, folder), table=folder / "trials.jsonl",
            figure=folder / "sweep.svg",
        )),
    ]
    return "\n".join(lines)


def find_run_folder(trial: Any, folder: Path) -> Path:
    """A trial's run folder."""
    return folder / str(trial.user_attrs.get("folder", trial.number))


def rank_trials(study: Any, sweep: Sweep) -> list[Any]:
    """The complete trials, the best first."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    return sorted(complete, key=lambda t: t.value, reverse=str(sweep.goal) == "maximize")


def format_table(trials: list[Any], sweep: Sweep) -> list[str]:
    """Aligned lines: trial, value, what was drawn."""
    names = list(trials[0].params)
    rows = [[str(message("trial")), sweep.metric, *names]]
    rows += [[str(t.number), f"{t.value:.4f}", *(_format_value(t.params.get(n)) for n in names)] for t in trials]
    widths = [max(count_cells(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(" " * (width - count_cells(cell)) + cell for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _format_value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def compute_importance(study: Any) -> dict[str, float]:
    """Each knob's share, the largest first; empty where there are too few trials, or all are alike."""
    import optuna

    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(complete) < 4 or len({t.value for t in complete}) == 1:
        return {}
    # PED-ANOVA, https://arxiv.org/abs/2304.10255: no scikit-learn
    return dict(optuna.importance.get_param_importances(study))


def build_course(study: Any, sweep: Sweep) -> Figure | None:
    """The best value so far over the trials, and each trial's own; None before there are two."""
    points = [(float(t.number), float(t.value)) for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if len(points) < 2:
        return None
    lead, line = points[0][1], []
    for number, value in points:
        lead = min(lead, value) if str(sweep.goal) == "minimize" else max(lead, value)
        line.append((number, lead))
    title = message("{study}: the best {metric} so far", study=sweep.study, metric=sweep.metric)
    return Figure(str(title), str(message("trial")), sweep.metric, line, points)
