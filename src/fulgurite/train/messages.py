"""What a run prints before its first step and after its last one."""

from __future__ import annotations

from collections.abc import Mapping

from fulgurite.config.decision import Decision
from fulgurite.method.modules import count_parameters
from fulgurite.method.summary import table
from fulgurite.monitor.outcome import RunEnding
from fulgurite.train.pieces import Pieces


def format_opening(pieces: Pieces) -> str:
    """What will happen, in a few lines: what trains, on what, how long, and which values were derived and why."""
    composed, run, stage, facts = pieces.composed, pieces.composed.run, pieces.module, pieces.gathered.facts
    rows, val, checkpoint = pieces.gathered.rows, pieces.gathered.val, pieces.checkpoint
    some, whole = count_parameters(stage)
    lines = [
        f"{run.stage.name} with {run.method.name} on {composed.choices['model']}: "
        f"{some:,} of {whole:,} parameters train ({some / whole:.1%})",
        f"{len(rows):,} rows, {len(val) if val is not None else 0:,} for validation; "
        f"{facts.total_steps:,} steps of {run.trainer.global_batch_size}; "
        f"{stage.dtypes.option} on {facts.device} ({stage.dtypes.reason})",
    ]
    if run.method.tells:
        lines.append(table([(name, p.numel()) for name, p in stage.model.named_parameters() if p.requires_grad], whole))
    lines += [f"  {decision}"] if (decision := run.strategy.decision(run)) else []
    lines += format_derived(composed.provenance, run.world_size)
    if run.private:
        lines.append(
            "  trainer.max_grad_norm is off: each row's gradient is clipped to privacy.max_grad_norm = "
            f"{run.privacy.max_grad_norm:g}; a step draws each row by chance, and a row's loss is the mean over its "
            "own labels"
        )
    lines.append(f"run folder {pieces.folder}" + (f", going on from {checkpoint.name}" if checkpoint else ""))
    return "\n".join(lines)


def format_derived(decisions: Mapping[str, Decision], processes: int) -> list[str]:
    """A line for each value that nobody gave: the parameter, the value, and from what it was derived."""
    told = {"precision", "name", "run_dir"}  # in the lines above and below
    if processes == 1:
        told |= {"trainer.devices", "trainer.num_nodes"}
    derived = {n: o for n, o in decisions.items() if o.derived and o.value is not None and n not in told}
    values = {n: f"{o.value:g}" if isinstance(o.value, float) else str(o.value) for n, o in derived.items()}
    return [f"  {name} = {values[name]}: {origin.reason}" for name, origin in derived.items()]


def format_closing(pieces: Pieces, how: RunEnding) -> str:
    """The answers before and after, how the run ended, its folder, and what to do next."""
    stage, trainer, folder = pieces.module, pieces.trainer, pieces.folder
    last = stage.step_record.get("train/loss")
    val = trainer.callback_metrics.get("val/loss")
    numbers = ", ".join(
        f"{name} {float(x):.3f}" for name, x in (("train loss", last), ("validation loss", val)) if x is not None
    )
    talk = {f"fulgurite chat run={folder}": "talk with it"} if pieces.composed.run.stage.speaks else {}
    next_steps = {
        **talk,
        f"fulgurite export run={folder} out=my-model": "a folder that plain transformers loads",
        "fulgurite runs": "compare runs",
        "fulgurite explain method.rank": "what a knob does, what to set it to, and who says so",
    }
    width = max(map(len, next_steps))
    done = f"{how.format_opening()} {trainer.global_step:,} steps, {numbers}. The run lies in {folder}"
    early = [describe_early_stop(pieces)] if pieces.callbacks.stopped_early else []
    private = [str(stage.mechanism.describe())] if stage.mechanism is not None else []
    advice = [f"  {command:<{width}}  {what}" for command, what in next_steps.items()]
    samples = pieces.callbacks.samples
    return "\n".join(["", samples.comparison() if samples is not None else "", done, *early, *private, "", *advice])


def describe_early_stop(pieces: Pieces) -> str:
    """At which step, why, and which checkpoint is the best."""
    kept, step, total = pieces.callbacks.checkpoints, pieces.trainer.global_step, pieces.module.total_steps
    return (
        f"Stopped early at step {step:,} of {total:,}: val/loss has not fallen below its {kept.best_value:.4g} of step "
        f"{kept.best_step} in {pieces.composed.run.trainer.early_stopping_patience} evaluations. "
        f"The best checkpoint is {kept.folder / 'best'}."
    )
