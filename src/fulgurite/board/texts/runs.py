"""Texts of the page: the list of runs, runs compared, and searches."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message

HEADS = {
    "choose": message("Compare"),
    "run": message("Run"),
    "state": message("State"),
    "steps": message("Steps"),
    "loss": message("Loss"),
    "val_loss": message("Validation"),
    "best_val_loss": message("Best validation"),
    "seconds": message("Time"),
    "actions": message("Actions"),
}
SWEEP = {
    "title": message("Search {folder}"),
    "minimize": message("Looks for the lowest {metric}."),
    "maximize": message("Looks for the highest {metric}."),
    "best": message("Best so far: trial {number} with {value}."),
    "course": message("Value of each trial"),
    "so_far": message("best so far"),
    "trial": message("Trial {step}"),
    "trials": message("Trials"),
    "number": message("Trial"),
    "is_best": message("best"),
    "importance": message("How much each parameter mattered"),
}

TEXTS: dict[str, UserMessage] = {
    "title": message("Runs"),
    "none": message("There is no run in these folders yet."),
    "none_start": message("Start the first one"),
    "filter": message("Filter by name, folder, state or choice"),
    "count": message("{shown} of {total} runs"),
    "launches": message("Commands without a run"),
    "compare": message("Compare {name}"),
    "open": message("Open the configuration of {name}"),
    "chat": message("Chat with {name}"),
    "export": message("Export {name}"),
    "curves": message("Chosen runs compared"),
    "metric": message("Curve"),
    "metric_smoothed": message("Loss (smoothed)"),
    "differences": message("Parameters in which they differ"),
    **{f"head.{name}": text for name, text in HEADS.items()},
    **{f"sweep.{name}": text for name, text in SWEEP.items()},
}
