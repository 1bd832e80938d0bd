"""`fulgurite average`: averages runs or checkpoints, and prints the average's held-out loss beside its members'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fulgurite.config.average_arguments import read
from fulgurite.config.guard import Allowed
from fulgurite.config.registry import import_plugins
from fulgurite.errors import FulguriteError
from fulgurite.evaluate.held_out import measure_held_out
from fulgurite.evaluate.subject import EvaluatedConfig, HeldOutData, build_stage, load_data
from fulgurite.export.average import Member, find_members, write_average
from fulgurite.language.library_errors import translate_error
from fulgurite.language.message import UserMessage, message
from fulgurite.model.config import Hf
from fulgurite.run.load import LoadedRun, load_named, load_run
from fulgurite.text.console import say, show
from fulgurite.text.layout import format_table
from fulgurite.trainer.device import device


def average_main(words: Sequence[str]) -> int:
    """Runs `fulgurite average run=RUN run=RUN out=FOLDER [checkpoints=...] [weights=...]`; returns 0."""
    allowed, config, out = read(words)
    import_plugins(allowed.plugins)
    members = find_members(config)
    _, written = write_average(config, members, out, allowed)
    kind = str(written.dtype).removeprefix("torch.")
    lines = [
        message(
            "Wrote the average of {count} models to {path} in {dtype}. Train from it by model=hf model.path={path}, "
            "talk with it by fulgurite chat model={path}.",
            count=len(members), path=out, dtype=kind,
        ),
        *written.notes,
    ]
    show("\n".join(map(str, lines)))
    try:
        losses = measure_losses(members, out, allowed)
    except FulguriteError as error:  # the folder is written; what fails is the comparison
        say(message("The held-out loss was not measured: {reason}", reason=translate_error(error)))
        return 0
    show(format_losses(members, losses))
    return 0


def measure_losses(members: Sequence[Member], out: Path, allowed: Allowed) -> list[float] | UserMessage:
    """Returns the held-out loss of each member and last that of the average, as written; or why there is none.

    All are measured on the validation set of the first run, by its stage and in its compute type.
    """
    first = use_first_config(load_run(members[0].run, members[0].checkpoint.name, allowed=allowed))
    stage = first.run.stage
    if stage.rolls_out or (stage.compares and not stage.gives_rewards):
        return message(
            "stage={stage} compares with the model before training, which an average does not have beside it; "
            "measure its answers: fulgurite eval model={path} metrics=chrf", stage=stage.name, path=out,
        )
    data = load_data(first, own=True)
    losses = [measure_loss(first, data)]
    for member in members[1:]:
        other = load_run(member.run, member.checkpoint.name, allowed=allowed)
        other.run = first.run
        losses.append(measure_loss(other, data))
        del other
    base = Hf(path=str(out), attention=first.run.model.attention, trust_remote_code=allowed.model_code)
    found = load_named(base, first.dtypes.frozen, reward=stage.gives_rewards)
    written = LoadedRun(first.run, found.model.eval(), found.tokenizer, first.template, first.dtypes, out)
    return [*losses, measure_loss(written, data)]


def use_first_config(loaded: LoadedRun) -> LoadedRun:
    """Returns the run with the settings of an evaluation: one device."""
    loaded.run = EvaluatedConfig(loaded.run).use_one_device().run
    return loaded


def measure_loss(loaded: LoadedRun, data: HeldOutData) -> float:
    """Returns the mean held-out loss of a model by the stage of its config."""
    loaded.model.to(torch.device(device(loaded.run.trainer)))
    stage = build_stage(loaded, data.rows)
    return measure_held_out(stage, data.rows, loaded.tokenizer).numbers["loss"]


def format_losses(members: Sequence[Member], losses: list[float] | UserMessage) -> str:
    """Returns a table of the members with their weights and losses, and the average; or the reason for none."""
    if isinstance(losses, UserMessage):
        return str(losses)
    rows = [[m.name, f"{m.weight:.3f}", f"{loss:.4f}"] for m, loss in zip(members, losses, strict=False)]
    rows.append([str(message("average")), "", f"{losses[-1]:.4f}"])
    heads = [str(message("model")), str(message("weight")), str(message("held-out loss"))]
    return format_table(heads, rows)
