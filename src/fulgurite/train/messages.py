"""Formats what a run prints before its first step and after its last one."""

from __future__ import annotations

from collections.abc import Mapping

from fulgurite.config.decision import Decision
from fulgurite.language.message import UserMessage, message
from fulgurite.method.modules import count_parameters
from fulgurite.method.summary import table
from fulgurite.monitor.outcome import RunEnding
from fulgurite.text.console import is_verbose
from fulgurite.text.layout import count_cells, wrap
from fulgurite.train.pieces import Pieces

DECISIVE = ("optim.lr", "trainer.global_batch_size", "method.rank", "trainer.epochs")
"""The parameters whose values and reasons a run prints: the first three that it has."""
COLUMNS = 80
"""Columns of a line with a reason in the opening: one line of a usual terminal. provenance.json has whole reasons."""


def format_opening(pieces: Pieces) -> str:
    """Returns what is printed before the first step: what trains, on what, how long, the memory, the three decisive
    values with their reasons, and the run folder. `train -v` adds every other value."""
    composed, run, facts = pieces.composed, pieces.composed.run, pieces.gathered.facts
    val, checkpoint = pieces.gathered.val, pieces.checkpoint
    some, whole = count_parameters(pieces.module)
    lines = [
        message(
            "{stage} with {method} on {model}: {trained} of {parameters} parameters train ({share:.1%})",
            stage=run.stage.name, method=run.method.name, model=composed.choices["model"], trained=_format_count(some),
            parameters=_format_count(whole), share=some / whole,
        ),
        message(
            "{examples:,} examples, {held_out:,} for validation; {steps:,} steps of {batch} examples",
            examples=len(pieces.gathered.rows), held_out=len(val) if val is not None else 0, steps=facts.total_steps,
            batch=run.trainer.global_batch_size,
        ),
        _describe_machine(pieces),
        *(_format_details(pieces) if is_verbose() else format_decisive(composed.provenance)),
    ]
    if checkpoint:
        lines.append(message("run folder {folder}, resumed from {checkpoint}", folder=pieces.folder,
                             checkpoint=checkpoint.name))
    else:
        lines.append(message("run folder {folder} (train -v prints every reason)", folder=pieces.folder))
    return "\n".join(map(str, lines))


def _describe_machine(pieces: Pieces) -> UserMessage:
    facts, memory = pieces.gathered.facts, pieces.gathered.seen.memory
    size = pieces.composed.run.world_size
    device = f"{size} × {facts.device}" if size > 1 else facts.device
    dtypes = pieces.module.dtypes
    return describe_precision(dtypes.reason, dtypes.option, device, None if memory is None else memory.peak)


def describe_precision(why: object, option: str, device: str, peak: float | None) -> UserMessage:
    """Returns compute type and device with the reason, and the peak of the memory if it is known, on one line."""

    def fill(reason: str) -> UserMessage:
        if peak is None:
            return message("{precision} on {device} ({reason})", precision=option, device=device, reason=reason)
        return message(
            "{precision} on {device} ({reason}); about {memory:.2g} GB of memory", precision=option,
            device=device, reason=reason, memory=peak / 1e9,
        )

    return fill(shorten_reason(str(why), COLUMNS - count_cells(str(fill("")))))


def shorten_reason(reason: str, columns: int) -> str:
    """Returns the beginning of a reason that fits into `columns`, in whole words: half a number would be another one.

    It ends with an ellipsis if something was cut.
    """
    if count_cells(reason) <= columns:
        return reason
    first = wrap(reason, max(columns - 4, 1), "", "").partition("\n")[0]
    # a closing mark of Chinese may hang over the end of a wrapped line
    return f"{first.rstrip(' ;,:(；，：（、')} …"


def _format_count(count: int) -> str:
    """Formats a number of parameters as `19.5M` or `7.24B`; the plan has the exact one."""
    if count >= 1e9:
        return f"{count / 1e9:.2f}B"
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count:,}"


def format_decisive(decisions: Mapping[str, Decision]) -> list[str]:
    """Returns the three decisive values, each with the beginning of its reason."""
    known = [decisions[name] for name in DECISIVE if name in decisions and decisions[name].value is not None]
    lines = []
    for decision in known[:3]:
        head = f"  {decision.parameter} = {_format_value(decision.value)}: "
        reason = decision.reason or str(message("given"))
        lines.append(head + shorten_reason(reason, COLUMNS - count_cells(head)))
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
