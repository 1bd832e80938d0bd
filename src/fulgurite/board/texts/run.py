"""Texts of the page: one run, its charts, its samples and the chat. The list of runs uses the states and charts too."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message

CHART = {
    "log": message("Log scale"),
    "read": message("{title}: read the values with the arrow keys"),
    "empty": message("No values yet"),
    "table": message("Values as a table"),
    "rows": message("{shown} of {total} steps, evenly spread"),
    "step": message("Step {step}"),
    "start": message("Before the first step"),
    "steps": message("Step"),
}
STATES = {
    "starting": message("starting"),
    "running": message("running"),
    "finished": message("finished"),
    "stopped": message("stopped"),
    "failed": message("failed"),
    "diverged": message("diverged"),
    "died": message("died"),
    "unknown": message("unknown"),
    "waiting": message("waiting"),
    "pruned": message("ended early"),
}
"""The states of a run, of a trial of a search, and of a command that has no run yet."""

ENDED = {
    "stopped": message("This run was stopped; its last checkpoint is saved."),
    "failed": message("This run failed."),
    "diverged": message("This run diverged: its loss went out of control."),
    "died": message("The process of this run ended without a word: it was killed, or the machine was restarted."),
    "unknown": message("The state of this run cannot be read."),
}
SEVERITIES = {
    "stop": message("stop"), "error": message("error"), "warning": message("warning"), "note": message("note"),
}
NUMBERS = {
    "step": message("Step"),
    "loss": message("Loss (smoothed)"),
    "validation": message("Validation loss"),
    "best": message("best {value}"),
    "lr": message("Learning rate"),
    "grad_norm": message("Gradient norm"),
    "clipped": message("Clipped steps"),
    "speed": message("Tokens per second"),
    "left": message("Time left"),
    "took": message("Time taken"),
}
CURVES = {
    "loss": message("Loss"),
    "raw": message("every step"),
    "smoothed": message("smoothed"),
    "training": message("training"),
    "validation": message("validation"),
    "lr": message("Learning rate"),
    "grad_norm": message("Gradient norm"),
    "clipped": message("Clipped steps"),
    "tokens_per_second": message("Tokens per second"),
    "update_ratio": message("Relative update size"),
}
ACTIONS = {
    "stop": message("Stop and save"),
    "stopping": message("Stopping, and saving a checkpoint"),
    "stop_now": message("Stop now, without saving"),
    "resume": message("Resume"),
    "chat": message("Chat"),
    "export": message("Export"),
    "open": message("Open its configuration"),
    "end": message("Stop the command"),
    "ending": message("Stopping the command"),
}
EXPORT = {
    "title": message("Export the trained model"),
    "merged": message("Whole model"),
    "merged_about": message("A folder that transformers loads. An adapter is merged into its base model."),
    "adapter": message("Adapter only"),
    "adapter_about": message("A small folder for peft. It needs the base model."),
    "start": message("Start the export"),
    "running": message("The model is being exported, and its outputs are compared with those of the run."),
    "done": message("The export is complete."),
    "failed": message("The export failed."),
}
SAMPLES = {
    "title": message("Answers before, during and after training"),
    "before": message("before · step {step}"),
    "during": message("during · step {step}"),
    "now": message("now · step {step}"),
    "after": message("after · step {step}"),
    "choose": message("Middle column at step"),
    "none": message("No answer at this step"),
    "blank": message("Only spaces and line breaks ({count} characters)"),
}
CHAT = {
    "title": message("Chat with {name}"),
    "close": message("Close the chat"),
    "settings": message("System message and length"),
    "system": message("System message"),
    "longest": message("Longest answer in tokens"),
    "empty": message("The model of this run answers in the chat format of its training."),
    "messages": message("Messages"),
    "question": message("Your message"),
    "send": message("Send"),
    "stop": message("Stop"),
    "reset": message("New chat"),
    "user": message("You"),
    "assistant": message("Model"),
    "nothing": message("(empty answer)"),
}
PARTS = {
    "chart": CHART, "state": STATES, "ended": ENDED, "severity": SEVERITIES, "number": NUMBERS, "curve": CURVES,
    "action": ACTIONS, "export": EXPORT, "samples": SAMPLES, "chat": CHAT,
}

TEXTS: dict[str, UserMessage] = {
    "title": message("This run"),
    "started": message("started {time}"),
    "findings.title": message("Findings"),
    "findings.before": message("Before the first step: {count}"),
    "command": message("Command line of this run"),
    "to_runs": message("All runs"),
    "to_run": message("Show the run"),
    "output": message("What the command printed"),
    "to_parameters": message("Change the parameters"),
    **{f"{part}.{name}": text for part, texts in PARTS.items() for name, text in texts.items()},
}
