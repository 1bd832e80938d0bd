"""Formats what a run prints before its first step and after its last one."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from fulgurite.config.decision import Decision
from fulgurite.language.message import UserMessage, message
from fulgurite.method.modules import count_parameters
from fulgurite.method.summary import table
from fulgurite.monitor.outcome import RunEnding
from fulgurite.text.console import is_verbose
from fulgurite.text.layout import count_cells
from fulgurite.train.pieces import Pieces

DECISIVE = ("optim.lr", "trainer.global_batch_size", "method.rank", "trainer.epochs")
"""The parameters whose values and reasons a run prints: the first three that it has."""
REASON = 100
"""Columns of a reason in the opening; the whole of it is in provenance.json."""


def format_opening(pieces: Pieces) -> str:
    """Returns what is printed before the first step: what trains, on what, how long, the memory, the three decisive
    values with their reasons, and the run folder. `train -v` adds every other value."""
    composed, run, facts = pieces.composed, pieces.composed.run, pieces.gathered.facts
    val, checkpoint = pieces.gathered.val, pieces.checkpoint
    some, whole = count_parameters(pieces.module)
    lines = [
        message(
            "{stage} with {method} on {model}: {trained:,} of {parameters:,} parameters train ({share:.1%})",
            stage=run.stage.name, method=run.method.name, model=composed.choices["model"], trained=some,
            parameters=whole, share=some / whole,
        ),
        message(
            "{examples:,} examples, {held_out:,} for validation; {steps:,} steps of {batch} examples",
            examples=len(pieces.gathered.rows), held_out=len(val) if val is not None else 0, steps=facts.total_steps,
            batch=run.trainer.global_batch_size,
        ),
        _describe_machine(pieces),
        *(_format_details(pieces) if is_verbose() else _format_decisive(composed.provenance)),
    ]
    if checkpoint:
        lines.append(message("run folder {folder}, resumed from {checkpoint}", folder=pieces.folder,
                             checkpoint=checkpoint.name))
    else:
        lines.append(message("run folder {folder} (all values and reasons: provenance.json, or train -v)",
                             folder=pieces.folder))
    return "\n".join(map(str, lines))


def _describe_machine(pieces: Pieces) -> UserMessage:
    dtypes, facts, memory = pieces.module.dtypes, pieces.gathered.facts, pieces.gathered.seen.memory
    size = pieces.composed.run.world_size
    device = f"{size} × {facts.device}" if size > 1 else facts.device
    if memory is None:
        return message(
            "{precision} on {device} ({reason})", precision=dtypes.option, device=device, reason=dtypes.reason
        )
    return message(
        "{precision} on {device} ({reason}); about {memory:.2g} GB of memory", precision=dtypes.option,
        device=device, reason=dtypes.reason, memory=memory.peak / 1e9,
    )


def _format_decisive(decisions: Mapping[str, Decision]) -> list[str]:
    """Returns the three decisive values, each with the beginning of its reason."""
    known = [decisions[name] for name in DECISIVE if name in decisions and decisions[name].value is not None]
    lines = []
    for decision in known[:3]:
        reason = decision.reason or str(message("given"))
        if count_cells(reason) > REASON:
            # whole words only: half a number would be another number
            cut = textwrap.shorten(reason, REASON, placeholder="")
            reason = f"{(cut or reason[:REASON]).rstrip(' ;,:(')} …"
        lines.append(f"  {decision.parameter} = {_format_value(decision.value)}: {reason}")
    return lines


def _format_details(pieces: Pieces) -> list[str]:
    """Returns every value that nobody gave with its reason, and what a method and privacy add."""
    composed, run, stage = pieces.composed, pieces.composed.run, pieces.module
    lines = []
    if run.method.prints_table:
        trained = [(name, p.numel()) for name, p in stage.model.named_parameters() if p.requires_grad]
        lines.append(table(trained, count_parameters(stage)[1]))
    lines += [f"  {decision}"] if (decision := run.strategy.decision(run)) else []
    lines += format_derived(composed.provenance, run.world_size)
    if run.private:
        lines.append(str(message(
            "  trainer.max_grad_norm is off: the gradient of each example is clipped to privacy.max_grad_norm = "
            "{norm:g}; a step draws each example by chance, and its loss is the mean over its own labels",
            norm=run.privacy.max_grad_norm,
        )))
    return lines


def format_derived(decisions: Mapping[str, Decision], processes: int) -> list[str]:
    """Returns a line for each value that nobody gave: the parameter, the value, and the reason."""
    elsewhere = {"precision", "name", "run_dir"}  # in the lines above and below
    if processes == 1:
        elsewhere |= {"trainer.devices", "trainer.num_nodes"}
    derived = {n: o for n, o in decisions.items() if o.derived and o.value is not None and n not in elsewhere}
    return [f"  {name} = {_format_value(decision.value)}: {decision.reason}" for name, decision in derived.items()]


def _format_value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_closing(pieces: Pieces, how: RunEnding) -> str:
    """Returns the answers before and after, how the run ended, its folder, and what to do next."""
    stage, trainer, folder = pieces.module, pieces.trainer, pieces.folder
    names = {
        "train/loss": message("train loss"), "val/loss": message("validation loss"),
        "val/accuracy": message("validation accuracy"),
    }
    values = {**stage.step_record, **trainer.callback_metrics}
    numbers = ", ".join(f"{name} {float(values[key]):.3f}" for key, name in names.items() if key in values)
    talk = {f"fulgurite chat run={folder}": message("talk with it")} if pieces.composed.run.stage.speaks else {}
    next_steps = {
        **talk,
        f"fulgurite export run={folder} out=my-model": message("write a folder that plain transformers loads"),
        "fulgurite runs": message("compare runs"),
        "fulgurite explain method.rank": message("what a parameter does, and what to set it to"),
    }
    width = max(map(len, next_steps))
    done = message(
        "{ending} {steps:,} steps, {numbers}. Run folder: {folder}",
        ending=how.format_opening(), steps=trainer.global_step, numbers=numbers, folder=folder,
    )
    early = [str(describe_early_stop(pieces))] if pieces.callbacks.stopped_early else []
    private = [str(stage.mechanism.describe())] if stage.mechanism is not None else []
    advice = [f"  {command:<{width}}  {what}" for command, what in next_steps.items()]
    samples = pieces.callbacks.samples
    parts = ["", samples.comparison() if samples is not None else "", str(done), *early, *private, "", *advice]
    return "\n".join(parts)


def describe_early_stop(pieces: Pieces) -> UserMessage:
    """Returns at which step the run ended, why, and which checkpoint is the best."""
    kept, step, total = pieces.callbacks.checkpoints, pieces.trainer.global_step, pieces.module.total_steps
    return message(
        "Stopped early at step {step:,} of {total:,}: val/loss has not fallen below its {best:.4g} of step {best_step} "
        "in {patience} evaluations. The best checkpoint is {folder}.",
        step=step, total=total, best=kept.best_value, best_step=kept.best_step,
        patience=pieces.composed.run.trainer.early_stopping_patience, folder=kept.folder / "best",
    )
