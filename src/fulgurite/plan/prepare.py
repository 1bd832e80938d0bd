"""A run as it would be, seen before any weight is loaded: `plan` shows it, and `train` begins with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.checkpoint.folder import SLACK
from fulgurite.config.provenance import Composed, Origin
from fulgurite.config.run import Facts, RunConfig
from fulgurite.config.schema import build
from fulgurite.data.cache import cache_root
from fulgurite.data.dataset import AnyRows, split
from fulgurite.data.report import Report
from fulgurite.data.source import Source
from fulgurite.data.template import Template, resolve
from fulgurite.data.template_agreement import differing
from fulgurite.data.tokenized import TokenizedData, encode
from fulgurite.model.config import Attention
from fulgurite.model.generation_config import invalid_fields
from fulgurite.model.padding import free_padding
from fulgurite.plan.alternatives import cheaper
from fulgurite.plan.context import DataFacts, Disk, Memory, ModelFacts, Seen
from fulgurite.plan.data_stats import counted
from fulgurite.plan.hardware import machine
from fulgurite.plan.memory import estimate
from fulgurite.plan.meta_model import outlined
from fulgurite.plan.micro_batch import reduce
from fulgurite.plan.preflight import refuse_unmeasured
from fulgurite.precision.policy import Dtypes
from fulgurite.run.load import base_of
from fulgurite.scheduler.equivalence import curve
from fulgurite.trainer.build import device, refuse_absent


@dataclass(slots=True)
class Gathered:
    """What a run begins with: its rows, its length, and all that the rules may look at."""

    encoded: TokenizedData
    rows: AnyRows
    val: AnyRows | None
    report: Report
    facts: Facts
    seen: Seen
    template: Template


def settled(composed: Composed) -> Dtypes:
    """The compute type of the run, and why, kept beside the other reasons. Raises ConfigError."""
    refuse_absent(composed.run.trainer)
    dtypes: Dtypes = build(composed.run.precision, device(composed.run.trainer))
    if composed.run.precision.chosen_by_device:
        composed.provenance["precision"] = Origin(dtypes.option, "derived", dtypes.reason)
    return dtypes


def gather(composed: Composed, source: Source, dtypes: Dtypes) -> Gathered:
    """Read and count everything but the weights, and fill each empty knob as soon as what it hangs on is known.

    Raises ConfigError, DataError, ModelError as training would.
    """
    run, facts = composed.run, Facts(device=device(composed.run.trainer), processes=composed.run.world_size)
    outline, model = outlined(run, dtypes)
    template = resolve(run.data.template, outline.tokenizer, run.data.arguments(), run.data.special_tokens)
    model.template_name = template.name
    model.template_differs = differing(template, outline.tokenizer) or "" if not run.stage.gives_rewards else ""
    model.free_padding = free_padding(outline.tokenizer, template.stop_ids) is not None
    base: Any = base_of(run.model)
    model.invalid_generation = invalid_fields(base.path, base.revision) if base.folder() is not None else {}
    encoded = encode(source, outline.tokenizer, template, run.data, cache_root(), run.data.max_length or outline.length)
    facts.percentile_99, facts.model_length, facts.rows = encoded.percentile_99, outline.length, len(encoded)
    composed.fill(facts, "data")
    rows, val, report = split(encoded, run.data, run.seed, run.data.max_length, run.data.packing)
    refuse_unmeasured(run, val is not None)  # of a single example none is held out
    take_attention(composed, model)
    plan_steps(composed, facts, rows)
    reduce(composed, model, rows.lengths, machine(run))
    data = counted(encoded, rows, val, report, template, model.vocab)
    seen = seen_of(composed, model, data, facts.total_steps)
    seen.cheaper = cheaper(composed, dtypes, facts, seen)
    return Gathered(encoded, rows, val, report, facts, seen, template)


def take_attention(composed: Composed, model: ModelFacts) -> None:
    """Set model.attention to what transformers has for the architecture, so that all that follows counts with it."""
    if model.attention not in ("", str(composed.run.model.attention)):
        composed.run.model.attention = Attention(model.attention)
        why = f"transformers has no other for {model.architecture}"
        composed.provenance["model.attention"] = Origin(model.attention, "derived", why)


def plan_steps(composed: Composed, facts: Facts, rows: AnyRows) -> None:
    """The run's length in optimizer steps, and every knob that hangs on it."""
    trainer = composed.run.trainer
    facts.rows = len(rows)
    per_epoch = -(-facts.rows // trainer.global_batch_size)
    facts.total_steps = trainer.max_steps or max(1, round(per_epoch * trainer.epochs) * composed.run.stage.steps_a_rollout())
    composed.fill(facts, "steps")


def seen_of(composed: Composed, model: ModelFacts, data: DataFacts, steps: int) -> Seen:
    """All that the rules may look at."""
    run = composed.run
    seen = Seen(
        run, composed.provenance, model, data, machine(run), steps, int(getattr(run.scheduler, "warmup_steps", 0) or 0),
        disk=disk(run, model), folder=folder_of(run), choices=composed.choices,
        unusual=list(composed.warnings),
    )
    if not run.scheduler.monitors:
        seen.curve = curve(run.scheduler, steps, run.optim.lr)
    seen.memory = memory(seen)
    return seen


def memory(seen: Seen) -> Memory:
    """What the run would hold at its peaks."""
    return estimate(seen.run, seen.model, seen.data.row_lengths if seen.data is not None else None, seen.machine)


def folder_of(run: RunConfig) -> Path | None:
    """The run's folder, where it is named already."""
    named = run.resume.run or run.run_dir
    return Path(named) if named is not None else None


def disk(run: RunConfig, model: ModelFacts) -> Disk:
    """The bytes of a checkpoint: what is trained and the optimizer's state; the newest are kept, the best, and one is being written."""
    shapes = {t.name: t.shape for t in model.tensors if t.trained}
    width = max((t.bytes // max(math.prod(t.shape), 1) for t in model.tensors if t.trained), default=4)
    hidden = [t.name for t in model.tensors if t.trained and len(t.shape) == 2 and t.kind not in ("embedding", "head", "adapter")]
    one = sum(t.bytes for t in model.tensors if t.trained) + run.optim.total_state_bytes(shapes, width, hidden) + SLACK
    validates = run.data.val_fraction > 0 or bool(getattr(run.data, "val_path", None))
    kept = run.trainer.keep_checkpoints + validates
    return Disk(one, kept, one * (kept + 1))
