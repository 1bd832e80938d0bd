"""The plan on one screen, and as JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fulgurite.config.decision import Decision
from fulgurite.config.provenance import to_plain
from fulgurite.data.report import count_lengths
from fulgurite.explain.layout import format_value
from fulgurite.language.current import get_language
from fulgurite.language.message import UserMessage, as_message, get_english, message
from fulgurite.plan.context import DataFacts, MemoryPart, PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules.memory import PARTS as LABELS
from fulgurite.plan.rules.memory import list_process_lines
from fulgurite.plan.timing import Timing
from fulgurite.precision.policy import Dtypes
from fulgurite.rules.registry import describe_severity
from fulgurite.scheduler.plot import plot
from fulgurite.text.layout import count_cells, format_labels, measure_width, pad

FIELDS, FILES = 8, 3
"""How many unread fields and files are named."""
SHORTEST_BAR, LONGEST_BAR = 8, 40
"""Limits of the histogram's bars, in columns."""
BESIDE_BAR = 36
"""Columns of a line of the histogram beside its bar."""
PARTS = ("weights", "gradients", "optimizer", "gathered", "activations", "logits", "other")
PHASES = {
    "loading": message("loading"), "training": message("training"), "evaluation": message("evaluation"),
    "rollouts": message("rollouts"),
}
"""The phases of a run with their names for readers."""
KINDS = {
    "embedding": message("embedding"), "head": message("head"), "norm": message("norm"),
    "attention": message("attention"), "mlp": message("mlp"), "adapter": message("adapter"), "bias": message("bias"),
    "other": message("other"),
}
"""The kinds of weights with their names for readers."""
Rows = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan: what was seen of the run, and what the rules found. `print` shows it as `fulgurite plan` does."""

    seen: PlanFacts
    dtypes: Dtypes
    findings: list[Trouble]
    """What the rules found, errors first."""
    provenance: Mapping[str, Decision]
    probe: Timing | None = None

    @property
    def refused(self) -> bool:
        """Whether a rule refuses the run."""
        return any(trouble.refuses for trouble in self.findings)

    def __str__(self) -> str:
        return format_screen(self.seen, self.dtypes, self.findings, self.probe)

    def to_dict(self) -> dict[str, Any]:
        """The plan for programs, as `fulgurite plan --json` prints it."""
        return build_dict(self.seen, self.provenance, self.findings, self.probe)


def format_screen(
    seen: PlanFacts, dtypes: Dtypes, troubles: Sequence[Trouble], probe: Timing | None, columns: int | None = None
) -> str:
    """Formats all of it for a terminal of so many columns, by default the one in use."""
    columns = columns or measure_width()
    if get_language() == "zh":
        columns -= 2  # a closing mark may hang over the end of a line
    rest: Rows = [(str(message("time")), format_time(seen, probe)), (str(message("disk")), format_disk(seen))]
    blocks = [
        format_headline(seen, dtypes, columns),
        f"{message('PARAMETERS')}\n{format_parameters(seen)}",
        f"{message('DATA')}\n{format_data(seen, columns)}",
        f"{message('MEMORY')}\n{format_memory(seen)}",
        format_labels(rest, columns),
        plot(seen.run.scheduler, max(seen.steps, 2), seen.run.optim.lr, columns, 7),
        f"{message('DERIVED')}\n{format_derived(seen, columns)}",
        f"{message('TROUBLES')}\n{format_troubles(troubles, columns)}",
    ]
    return "\n\n".join(blocks)


def format_headline(seen: PlanFacts, dtypes: Dtypes, columns: int) -> str:
    """Formats what the run is."""
    run, m, d = seen.run, seen.model, seen.data
    assert d is not None
    each = d.tokens / max(d.rows, 1) * run.stage.count_examples_per_step(run.trainer.global_batch_size)
    about = {
        "steps": seen.steps, "warmup": seen.warmup_steps, "batch": run.trainer.global_batch_size,
        "micro": run.trainer.micro_batch_size, "tokens": each,
    }
    steps = message(
        "{steps:,} optimizer steps, {warmup:,} of them warmup; {batch} prompts a step in micro-batches of {micro}, "
        "about {tokens:,.0f} tokens a step",
        **about,
    ) if run.stage.rolls_out else message(
        "{steps:,} optimizer steps, {warmup:,} of them warmup; {batch} examples a step in micro-batches of {micro}, "
        "about {tokens:,.0f} tokens a step",
        **about,
    )
    rows = [
        (message("run"), message(
            "{stage} with {method} on {model} ({architecture}), seed {seed}",
            stage=run.stage.name, method=seen.choices.get("method", run.method.name), model=m.path,
            architecture=m.architecture, seed=run.seed,
        )),
        (message("trains"), message(
            "{trained:,} of {total:,} parameters ({share:.2%})", trained=m.trained, total=m.parameters, share=m.share
        )),
        (message("steps"), steps),
        (message("device"), message(
            "{device}, {precision}: {reason}",
            device=seen.machine.device, precision=dtypes.option, reason=dtypes.reason,
        )),
    ]
    if seen.earlier is not None:
        rows.append((message("resumes"), as_message(seen.earlier.describe())))
    if run.private:
        rows.append((message("privacy"), format_privacy(seen)))
    return format_labels([(str(label), str(text)) for label, text in rows], columns, 0)


def format_privacy(seen: PlanFacts) -> UserMessage:
    """Returns the noise that a wanted epsilon needs, or the epsilon that a given noise spends."""
    from fulgurite.privacy.accountant import compute_epsilon, compute_rate

    privacy, rows = seen.run.privacy, seen.data.rows if seen.data is not None else 0
    rate, noise = compute_rate(seen.run.trainer.global_batch_size, rows), privacy.noise_multiplier
    about = {"noise": noise, "delta": privacy.delta, "rate": rate, "steps": seen.steps}
    if seen.is_given("privacy.noise_multiplier"):
        spent = compute_epsilon([(noise, rate, seen.steps)], privacy.delta, privacy.accountant)
        return message(
            "noise multiplier {noise:g} spends epsilon {epsilon:.3g} at delta {delta:.2g}, with each example drawn at "
            "a rate of {rate:.3g} in {steps:,} steps",
            **about, epsilon=spent,
        )
    return message(
        "epsilon {epsilon:g} needs noise multiplier {noise:.3g} at delta {delta:.2g}, with each example drawn at a "
        "rate of {rate:.3g} in {steps:,} steps",
        **about, epsilon=privacy.epsilon,
    )


def format_parameters(seen: PlanFacts) -> str:
    """Formats what trains and what is frozen, by kind."""
    found: dict[str, list[int]] = {}
    for tensor in seen.model.tensors:
        count = math.prod(tensor.shape)
        entry = found.setdefault(tensor.kind, [0, 0, 0])
        entry[0] += count
        entry[1] += count * tensor.trained
        entry[2] += tensor.bytes
    rows = [
        [
            str(KINDS.get(kind, kind)), f"{whole:,}", f"{some:,}", f"{some / max(seen.model.trained, 1):.2%}",
            format_size(stored),
        ]
        for kind, (whole, some, stored) in sorted(found.items(), key=lambda item: -item[1][0])
    ]
    head = [message("kind"), message("parameters"), message("trained"), message("of trained"), message("stored")]
    return _format_numbers([str(name) for name in head], rows)


def format_data(seen: PlanFacts, columns: int) -> str:
    """Formats the examples, what is lost of them, and their lengths as bars."""
    d, run = seen.data, seen.run
    assert d is not None
    more = message(" and {count} more files", count=len(d.sources) - FILES) if len(d.sources) > FILES else message("")
    rows = [
        (message("examples"), [message(
            "{rows:,} to train on, {validation:,} for validation, of {records:,} records in {files}{more}",
            rows=d.rows, validation=d.val_rows, records=d.records, files=", ".join(d.sources[:FILES]), more=more,
        )]),
        (message("tokens"), [message(
            "{tokens:,} an epoch, {labels:,} of them learned ({share:.0%}); trainer.epochs={epochs:g}; template "
            "{template}",
            tokens=d.tokens, labels=d.label_tokens, share=d.label_tokens / max(d.tokens, 1),
            epochs=run.trainer.epochs, template=seen.model.template_name,
        )]),
        (message("lost"), list_lost(d) or [message("nothing")]),
        (message("template"), _list_template(d.report)),
        (message("read"), _list_read_otherwise(d.report)),
        (message("odd"), _list_odd(d)),
    ]
    lines = [(str(label), "; ".join(map(str, texts))) for label, texts in rows if texts]
    return format_labels([*lines, (str(message("lengths")), draw_bars(seen, columns))], columns)


def list_lost(d: DataFacts) -> list[UserMessage]:
    """Lists what of the records is not trained on, a phrase each."""
    whole = max(d.records, 1)
    lost = [
        message("{count:,} dropped ({share:.1%}): {reason}", count=n, share=n / whole, reason=why)
        for why, n in d.dropped.items()
    ]
    if d.cut_answers:
        lost.append(message("{count:,} truncated ({share:.1%})", count=d.cut_answers, share=d.cut_answers / whole))
    lost += [message("{count:,} not drawn (data.max_samples or num_samples)", count=d.not_drawn)] if d.not_drawn else []
    return lost + ([message("{count:,} more pieces of documents that were cut", count=d.pieces)] if d.pieces else [])


def _list_odd(d: DataFacts) -> list[UserMessage]:
    odd = [message("{count:,} duplicates", count=d.duplicates)] if d.duplicates else []
    odd += [message("{count:,} without an end to learn", count=d.no_end)] if d.no_end else []
    return odd + ([message("{count:,} pairs with two equal answers", count=d.same_pairs)] if d.same_pairs else [])


def _list_template(report: dict[str, Any]) -> list[UserMessage]:
    """Lists what the chat template does to the records, and what it costs."""
    changed = report.get("written_otherwise", {})
    found = [message("{count:,} {what}", count=count, what=what) for what, count in changed.items()]
    found += [
        message("{count:,} answers left out ({reason})", count=count, reason=why)
        for why, count in report.get("answers_left_out", {}).items()
    ]
    if report.get("split_records"):
        found.append(message(
            "earlier turns change once later ones follow: {records:,} conversations are {rows:,} rows, one for each "
            "answer, of {tokens:,} tokens",
            records=report["split_records"], rows=report["split_rows"], tokens=report["split_tokens"],
        ))
    return found


def _list_read_otherwise(report: dict[str, Any]) -> list[UserMessage]:
    """Lists what of the records is changed in reading, or not read at all."""
    remarks = report.get("remarks", {})
    found = [message("{count:,} with {what}", count=count, what=what) for what, count in remarks.items()]
    unread = report.get("unread_fields", {})
    if not unread:
        return found
    named = ", ".join(f"{name} ({count:,})" for name, count in list(unread.items())[:FIELDS])
    more = message(" and {count} more", count=len(unread) - FIELDS) if len(unread) > FIELDS else message("")
    return [*found, message("fields that are not used: {names}{more}", names=named, more=more)]


def draw_bars(seen: PlanFacts, columns: int = 80) -> str:
    """Draws the histogram of the examples' lengths, a line for each power of two, and where data.max_length cuts."""
    d = seen.data
    if d is None or d.lengths is None or not len(d.lengths):
        return str(message("none"))
    bar = max(SHORTEST_BAR, min(columns - BESIDE_BAR - 12, LONGEST_BAR))
    counts = {int(top): n for top, n in count_lengths(d.lengths.tolist()).items()}
    most, total = max(counts.values()), sum(counts.values())
    lines = [
        f"≤ {top:>6,}  {'█' * max(1, round(bar * n / most)):<{bar}}  {n:>9,}  {n / total:>6.1%}"
        for top, n in counts.items()
    ]
    last = message(
        "99 % have at most {length:,} tokens; data.max_length={limit:,}: {count:,} are longer",
        length=d.percentile_99, limit=d.max_length, count=d.too_long,
    )
    return "\n".join([*lines, str(last)])


def format_memory(seen: PlanFacts) -> str:
    """Formats the peak of each phase by part."""
    if seen.memory is None:
        return f"  {message('not estimated')}"
    phases = {name: part for name in PHASES if (part := getattr(seen.memory, name)) is not None}
    shown = [part for part in PARTS if part != "gathered" or seen.memory.training.gathered]
    rows = [
        [str(LABELS[part]), *(format_size(getattr(held, part)) for held in phases.values())] for part in shown
    ]
    rows.append([str(message("peak")), *(format_size(held.total) for held in phases.values())])
    m = seen.machine
    free = message(
        "{free} of {total} are free on {device}",
        free=format_size(m.memory_free), total=format_size(m.memory_total), device=m.device,
    )
    lines = [_format_numbers(["", *(str(PHASES[name]) for name in phases)], rows), f"  {free}"]
    return "\n".join([*lines, *(f"  {line}" for line in list_process_lines(seen))])


def format_time(seen: PlanFacts, probe: Timing | None) -> str:
    """Formats how long the run takes, if that was measured."""
    if probe is not None:
        return str(probe.describe(seen))
    return str(message("not measured; --probe loads the model and times a few micro-batches"))


def format_disk(seen: PlanFacts) -> str:
    """Formats what checkpoints take."""
    d = seen.disk
    return str(message(
        "{each} a checkpoint; {count} are kept (trainer.keep_checkpoints={keep}, and the best) and one is being "
        "written: {total}; {free} are free",
        each=format_size(d.checkpoint), count=d.kept, keep=seen.run.trainer.keep_checkpoints,
        total=format_size(d.total), free=format_size(seen.machine.disk_free),
    ))


def format_derived(seen: PlanFacts, columns: int) -> str:
    """Formats every value that was derived, with its reason."""
    found = [(n, o) for n, o in sorted(seen.origins.items()) if o.derived and o.value is not None]
    return format_labels([(name, f"{_shorten(o.value)}  {o.reason}") for name, o in found], columns)


def format_troubles(troubles: Sequence[Trouble], columns: int) -> str:
    """Formats the findings, errors first, each with what to paste."""
    rows = []
    for t in troubles:
        label = str(describe_severity(t.severity))
        label = str(message("{severity} (allowed)", severity=label)) if t.allowed else label
        rows.append((label, f"{t.sentence}  [{t.rule}]" + (f"\n→ {t.remedy}" if t.remedy else "")))
    return format_labels(rows, columns) if rows else f"  {message('none: no rule has a finding')}"


def build_dict(
    seen: PlanFacts, origins: Mapping[str, Decision], troubles: Sequence[Trouble], probe: Timing | None,
) -> dict[str, Any]:
    """Returns the plan as plain values, with the numbers of the data and of the probe."""
    d, m = seen.data, seen.memory
    assert d is not None
    phases: dict[str, MemoryPart | None] = {n: getattr(m, n) for n in PHASES} if m is not None else {}
    return {
        "knobs": {name: _build_decision(decision) for name, decision in origins.items()},
        "steps": seen.steps,
        "warmup_steps": seen.warmup_steps,
        "tokens": d.tokens,
        "parameters": seen.model.parameters,
        "trainable": seen.model.trained,
        "memory": {"peak": m.peak, "offloaded": m.offloaded, **{n: _build_part(p) for n, p in phases.items() if p}}
        if m is not None
        else None,
        "disk": {
            "checkpoint": seen.disk.checkpoint,
            "kept": seen.disk.kept,
            "total": seen.disk.total,
            "free": seen.machine.disk_free,
        },
        "troubles": [
            {
                "rule": t.rule,
                "severity": str(t.severity),
                "sentence": get_english(t.sentence),
                "remedy": t.remedy,
                "overrides": t.overrides,
                "allowed": t.allowed,
                "refuses": t.refuses,
            }
            for t in troubles
        ],
        "rows": d.rows,
        "validation_rows": d.val_rows,
        "label_tokens": d.label_tokens,
        "dropped": d.dropped,
        "truncated": d.cut_answers,
        "device": {
            "kind": seen.machine.device,
            "memory_free": seen.machine.memory_free,
            "processes": seen.machine.processes,
        },
        "resume": seen.earlier.to_json() if seen.earlier is not None else None,
        "seconds": probe.estimate_seconds(seen) if probe is not None else None,
    }


def _build_decision(decision: Decision) -> dict[str, Any]:
    found = {"value": to_plain(decision.value), "origin": decision.origin, "reason": decision.because.english}
    return found | ({"sure": str(decision.sure)} if decision.sure else {})


def _build_part(part: MemoryPart) -> dict[str, int]:
    return {name: getattr(part, name) for name in PARTS} | {"total": part.total}


def format_size(n: float) -> str:
    """Formats bytes in powers of ten, as disks have them: `512 B`, `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _shorten(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) >= 0.01 else format_value(value)


def _format_numbers(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a table whose columns after the first are numbers, on the right."""
    widths = [max(count_cells(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for first, *numbers in [head, *rows]:
        cells = [" " * (width - count_cells(cell)) + cell for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  " + "  ".join([pad(first, widths[0]), *cells]))
    return "\n".join(lines)
