"""Prepares a run without loading weights: `plan` shows it, and `train` begins with it."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fulgurite.checkpoint.folder import SLACK
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.facts import Facts
from fulgurite.config.provenance import Composed
from fulgurite.config.resolve import decide, fill, note
from fulgurite.config.schema import build
from fulgurite.data.cache import find_cache_root
from fulgurite.data.config import Data
from fulgurite.data.dataset import AnyRows, split_dataset
from fulgurite.data.report import DataReport
from fulgurite.data.source import Source
from fulgurite.data.template import Template, load_template
from fulgurite.data.template_agreement import describe_difference
from fulgurite.data.tokenized import TokenizedData, tokenize_source
from fulgurite.language.message import UserMessage, as_message, message
from fulgurite.model.config import Attention
from fulgurite.model.generation_config import find_invalid_fields
from fulgurite.model.padding import free_padding
from fulgurite.optim.config import Optim
from fulgurite.plan.alternatives import find_cheaper
from fulgurite.plan.context import DataFacts, Disk, Memory, ModelFacts, PlanFacts
from fulgurite.plan.data_stats import count_data
from fulgurite.plan.hardware import detect_machine
from fulgurite.plan.memory import estimate
from fulgurite.plan.micro_batch import fit_memory
from fulgurite.plan.outline import read_outline, resize_adapter
from fulgurite.plan.preflight import refuse_unmeasured
from fulgurite.plan.recall import Recall, key_outline, key_rows, key_template, key_tokens, make_anew
from fulgurite.precision.config import Precision
from fulgurite.precision.policy import Dtypes
from fulgurite.run.resume_plan import preview_resume
from fulgurite.scheduler.equivalence import build_curve
from fulgurite.trainer.config import Trainer
from fulgurite.trainer.device import device, refuse_absent


@dataclass(slots=True)
class Gathered:
    """What a run begins with: its resolved config, its rows, its length, and all that the rules may read."""

    composed: Composed
    encoded: TokenizedData
    rows: AnyRows
    val: AnyRows | None
    report: DataReport
    facts: Facts
    seen: PlanFacts
    template: Template


def settle_precision(precision: Precision, trainer: Trainer) -> Dtypes:
    """Returns the compute type of the run, and why. Raises ConfigError."""
    refuse_absent(trainer)
    dtypes: Dtypes = build(precision, device(trainer))
    return dtypes


def prepare_run(composed: Composed, source: Source, dtypes: Dtypes, recall: Recall = make_anew) -> Gathered:
    """Reads and counts everything but the weights, and fills each empty parameter as soon as it can be derived.

    `recall` may return parts of an earlier plan. Raises ConfigError, DataError, ModelError as training would.
    """
    if composed.run.precision.chosen_by_device:
        why = as_message(dtypes.reason)
        composed = note(composed, Decision("precision", dtypes.option, Kind.derived, why))
    run, facts = composed.run, Facts(device=device(composed.run.trainer), processes=composed.run.world_size)
    is_kept = recall is not make_anew  # the keys take time too
    outlined = key_outline(run.stage, run.method, run.model, dtypes) if is_kept else ()
    outline = recall("outline", outlined, lambda: read_outline(run, dtypes))
    templated = key_template(run.model, run.data, run.stage.gives_rewards) if is_kept else ()
    model = resize_adapter(outline.facts, run.method)
    template, model.template_differs, model.free_padding = recall(
        "template", templated, lambda: read_template(run.data, run.stage.gives_rewards, outline.tokenizer)
    )
    model.template_name = template.name
    if run.model.folder() is not None:
        from fulgurite.run.load import find_base  # imports model code, which the outline of a folder has needed too

        base: Any = find_base(run.model)
        model.invalid_generation = find_invalid_fields(base.path, base.revision) if base.folder() is not None else {}
    tokenized = (templated, key_tokens(source, run.data)) if is_kept else ()
    encoded = recall("tokens", tokenized, lambda: tokenize_source(
        source, template.tokenizer, template, run.data, find_cache_root(), run.data.max_length or outline.length
    ))
    # Parameters are filled in the order in which their reasons become known: here data.max_length from the lengths.
    facts.percentile_99, facts.model_length, facts.rows = encoded.percentile_99, outline.length, len(encoded)
    composed = fill(composed, facts, "data")
    run = composed.run
    split = (tokenized, key_rows(run.data, run.seed)) if is_kept else ()
    rows, val, report = recall(
        "rows", split, lambda: split_dataset(encoded, run.data, run.seed, run.data.max_length, run.data.packing)
    )
    # of a single example none is held out
    refuse_unmeasured(run.scheduler, run.trainer.early_stopping_patience, val is not None)
    # Before the estimates below: the implementation of attention decides how much memory a row takes.
    composed = decide(composed, *decide_attention(run.model.attention, model))
    # Packed and split: the number of rows, and with it that of steps, is only known now.
    facts.rows = len(rows)
    facts.total_steps = count_steps(run.trainer, run.stage.count_steps_per_rollout(), facts.rows)
    composed = fill(composed, facts, "steps")
    run = composed.run
    machine = detect_machine(run.trainer, run.world_size, find_folder(run.resume.run, run.run_dir))
    # The micro-batch comes last, because its estimate depends on all that was filled above.
    composed = fit_memory(composed, model, rows.lengths, machine)
    data = recall("counts", split, lambda: count_data(encoded, rows, val, report, template, model.vocab))
    seen = build_seen(composed, model, data, facts.total_steps)
    seen.cheaper = find_cheaper(composed.overrides, dtypes, facts, seen)
    return Gathered(composed, encoded, rows, val, report, facts, seen, template)


def read_template(data: Data, rewards: bool, tokenizer: Any) -> tuple[Template, str | UserMessage, bool]:
    """Returns the chat template, how transformers renders it otherwise, and whether padding has a token of its own.

    The template is stored in a copy of the tokenizer, so that another template can be read after it.
    """
    # A shallow copy is enough: loading sets the template as an attribute of the tokenizer.
    own = copy(tokenizer)
    template = load_template(data.template, own, data.arguments(), data.special_tokens)
    differs = describe_difference(template, own) or "" if not rewards else ""
    return template, differs, free_padding(own, template.stop_ids) is not None


def preview_checkpoint(gathered: Gathered) -> Gathered:
    """Returns the same run with the checkpoint that it would resume, and with what it would adopt from there."""
    plan = preview_resume(gathered.composed, gathered.seen.folder)
    if plan is None:
        return gathered
    composed = decide(gathered.composed, *plan.adopted)
    seen = replace(gathered.seen, run=composed.run, origins=composed.provenance, earlier=plan)
    # Only a parameter that was adopted can change the estimate.
    seen.memory = estimate_memory(seen) if plan.adopted else seen.memory
    return replace(gathered, composed=composed, seen=seen)


def decide_attention(asked: Attention, model: ModelFacts) -> list[Decision]:
    """Decides on model.attention if transformers lacks the one that was asked for, so that all estimates use it."""
    if model.attention in ("", str(asked)):
        return []
    why = message("transformers has no other for {architecture}", architecture=model.architecture)
    return [Decision("model.attention", Attention(model.attention), Kind.derived, why)]


def count_steps(trainer: Trainer, steps_per_rollout: int, rows: int) -> int:
    """Returns the run's length in optimizer steps."""
    per_epoch = -(-rows // (trainer.global_batch_size or 1))
    return trainer.max_steps or max(1, round(per_epoch * (trainer.epochs or 0)) * steps_per_rollout)


def build_seen(composed: Composed, model: ModelFacts, data: DataFacts, steps: int) -> PlanFacts:
    """Collects all that the rules may read."""
    run = composed.run
    folder = find_folder(run.resume.run, run.run_dir)
    seen = PlanFacts(
        run,
        composed.provenance,
        model,
        data,
        detect_machine(run.trainer, run.world_size, folder),
        steps,
        int(getattr(run.scheduler, "warmup_steps", 0) or 0),
        disk=estimate_disk(run.optim, run.trainer, run.data, model),
        folder=folder,
        choices=composed.choices,
        unusual=list(composed.unusual),
    )
    if not run.scheduler.monitors:
        seen.curve = build_curve(run.scheduler, steps, run.optim.lr)
    seen.memory = estimate_memory(seen)
    return seen


def estimate_memory(seen: PlanFacts) -> Memory:
    """Estimates the memory of the run at its peaks."""
    return estimate(seen.run, seen.model, seen.data.row_lengths if seen.data is not None else None, seen.machine)


def find_folder(resumed: str | None, run_dir: str | None) -> Path | None:
    """Returns the run's folder if it is known: that of the run that is resumed, else `run_dir`."""
    named = resumed or run_dir
    return Path(named) if named is not None else None


def estimate_disk(optim: Optim, trainer: Trainer, data: Data, model: ModelFacts) -> Disk:
    """Estimates the bytes of checkpoints: what is trained and the optimizer's state; the newest are kept, the best, and
    one is being written."""
    shapes = {t.name: t.shape for t in model.tensors if t.trained}
    width = max((t.bytes // max(math.prod(t.shape), 1) for t in model.tensors if t.trained), default=4)
    hidden = [
        t.name
        for t in model.tensors
        if t.trained and len(t.shape) == 2 and t.kind not in ("embedding", "head", "adapter")
    ]
    # A checkpoint has the trained weights and the optimizer's state; a frozen base is not written again.
    one = sum(t.bytes for t in model.tensors if t.trained) + optim.total_state_bytes(shapes, width, hidden) + SLACK
    validates = data.val_fraction > 0 or bool(getattr(data, "val_path", None))
    # The best one is a checkpoint of its own, which only a validation loss can choose.
    kept = trainer.keep_checkpoints + validates
    return Disk(one, kept, one * (kept + 1))
