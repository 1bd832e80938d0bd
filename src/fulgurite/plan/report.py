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
from fulgurite.language.message import get_english
from fulgurite.plan.context import MemoryPart, PlanFacts
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.timing import Timing
from fulgurite.precision.policy import Dtypes
from fulgurite.scheduler.plot import plot
from fulgurite.text.layout import format_labels, format_table

WIDTH = 98
BAR = 40
FIELDS = 8
"""How many unread fields are named."""
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "other")
PHASES = ("loading", "training", "evaluation", "rollouts")


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


def format_screen(seen: PlanFacts, dtypes: Dtypes, troubles: Sequence[Trouble], probe: Timing | None) -> str:
    """All of it, at most 100 columns wide."""
    blocks = [
        format_headline(seen, dtypes),
        f"PARAMETERS\n{format_parameters(seen)}",
        f"DATA\n{format_data(seen)}",
        f"MEMORY\n{format_memory(seen)}",
        format_labels([("time", format_time(seen, probe)), ("disk", format_disk(seen))], WIDTH),
        plot(seen.run.scheduler, max(seen.steps, 2), seen.run.optim.lr, WIDTH, 7),
        f"DERIVED\n{format_derived(seen)}",
        f"TROUBLES\n{format_troubles(troubles)}",
    ]
    return "\n\n".join(blocks)


def format_headline(seen: PlanFacts, dtypes: Dtypes) -> str:
    """The run in a few lines."""
    run, m, d = seen.run, seen.model, seen.data
    assert d is not None
    each = d.tokens / max(d.rows, 1) * run.stage.count_examples_per_step(run.trainer.global_batch_size)
    unit = "prompts" if run.stage.rolls_out else "rows"
    steps = (
        f"{seen.steps:,} optimizer steps, {seen.warmup_steps:,} of them warmup; {run.trainer.global_batch_size} {unit} "
        f"a step in micro-batches of "
        f"{run.trainer.micro_batch_size}, about {each:,.0f} tokens a step"
    )
    rows = [
        (
            "run",
            f"{run.stage.name} with {seen.choices.get('method', run.method.name)} on {m.path} ({m.architecture}), "
            f"seed {run.seed}",
        ),
        ("trains", f"{m.trained:,} of {m.parameters:,} parameters ({m.share:.2%})"),
        ("steps", steps),
        ("device", f"{seen.machine.device}, {dtypes.option}: {dtypes.reason}"),
    ]
    if seen.earlier is not None:
        rows.append(("goes on", seen.earlier.describe()))
    if run.private:
        rows.append(("privacy", format_privacy(seen)))
    return format_labels(rows, WIDTH, 0)


def format_privacy(seen: PlanFacts) -> str:
    """The noise that a wanted epsilon needs, or the epsilon that a given noise spends."""
    from fulgurite.privacy.accountant import compute_epsilon, compute_rate

    privacy, rows = seen.run.privacy, seen.data.rows if seen.data is not None else 0
    rate, noise = compute_rate(seen.run.trainer.global_batch_size, rows), privacy.noise_multiplier
    given = f"at delta {privacy.delta:.2g}, each row drawn with chance {rate:.3g} in {seen.steps:,} steps"
    if seen.is_given("privacy.noise_multiplier"):
        spent = compute_epsilon([(noise, rate, seen.steps)], privacy.delta, privacy.accountant)
        return f"noise multiplier {noise:g} spends epsilon {spent:.3g} {given}"
    return f"epsilon {privacy.epsilon:g} needs noise multiplier {noise:.3g} {given}"


def format_parameters(seen: PlanFacts) -> str:
    """What trains and what is frozen, by kind."""
    found: dict[str, list[int]] = {}
    for tensor in seen.model.tensors:
        count = math.prod(tensor.shape)
        entry = found.setdefault(tensor.kind, [0, 0, 0])
        entry[0] += count
        entry[1] += count * tensor.trained
        entry[2] += tensor.bytes
    rows = [
        [
            kind,
            f"{whole:>15,}",
            f"{some:>13,}",
            f"{some / max(seen.model.trained, 1):>10.2%}",
            f"{format_size(stored):>9}",
        ]
        for kind, (whole, some, stored) in sorted(found.items(), key=lambda item: -item[1][0])
    ]
    head = ["kind", f"{'parameters':>15}", f"{'trained':>13}", f"{'of trained':>10}", f"{'stored':>9}"]
    return _indent(format_table(head, rows))


def format_data(seen: PlanFacts) -> str:
    """Rows, what is lost of them, and the lengths as bars."""
    d, run = seen.data, seen.run
    assert d is not None
    whole = max(d.records, 1)
    lost = [f"{n:,} dropped ({n / whole:.1%}): {why}" for why, n in d.dropped.items()]
    lost += [f"{d.cut_answers:,} truncated ({d.cut_answers / whole:.1%})"] if d.cut_answers else []
    lost += [f"{d.not_drawn:,} not drawn (data.max_samples)"] if d.not_drawn else []
    lost += [f"{d.pieces:,} more pieces of documents that were cut"] if d.pieces else []
    counted = (
        (d.duplicates, "duplicates"),
        (d.no_end, "without an end to learn"),
        (d.same_pairs, "pairs of one answer"),
    )
    odd = [f"{n:,} {what}" for n, what in counted if n]
    lines = [
        (
            "rows",
            f"{d.rows:,} to train on, {d.val_rows:,} for validation, of {d.records:,} records in "
            f"{', '.join(d.sources[:3])}"
            + (f" and {len(d.sources) - 3} more files" if len(d.sources) > 3 else ""),
        ),
        (
            "tokens",
            f"{d.tokens:,} an epoch, {d.label_tokens:,} of them learned ({d.label_tokens / max(d.tokens, 1):.0%}); "
            f"{run.trainer.epochs:g} epochs asked for; template {seen.model.template_name}",
        ),
        ("lost", "; ".join(lost) or "nothing"),
        *([("template", "; ".join(told))] if (told := _format_template(d.report)) else []),
        *([("read", "; ".join(read))] if (read := _read_otherwise(d.report)) else []),
        *([("odd", "; ".join(odd))] if odd else []),
        ("lengths", draw_bars(seen)),
    ]
    return format_labels(lines, WIDTH)


def _format_template(report: dict[str, Any]) -> list[str]:
    """What the chat template does to the records, and what it costs."""
    told = [f"{count:,} {what}" for what, count in report.get("written_otherwise", {}).items()]
    told += [f"{count:,} answers left out ({why})" for why, count in report.get("answers_left_out", {}).items()]
    if report.get("split_records"):
        told.append(
            f"earlier turns are written otherwise once later ones follow: {report['split_records']:,} conversations "
            f"are "
            f"{report['split_rows']:,} rows, one for each answer, of {report['split_tokens']:,} tokens"
        )
    return told


def _read_otherwise(report: dict[str, Any]) -> list[str]:
    """What of the records was read otherwise than it is written, or not at all."""
    told = [f"{count:,} with {what}" for what, count in report.get("remarks", {}).items()]
    unread = report.get("unread_fields", {})
    named = ", ".join(f"{name} (in {count:,})" for name, count in list(unread.items())[:FIELDS])
    more = f" and {len(unread) - FIELDS} more" if len(unread) > FIELDS else ""
    return told + ([f"nothing is made of the field {named}{more}"] if unread else [])


def draw_bars(seen: PlanFacts) -> str:
    """The histogram of the examples' lengths, a line for each power of two, and where data.max_length cuts."""
    d = seen.data
    if d is None or d.lengths is None or not len(d.lengths):
        return "none"
    counts = {int(top): n for top, n in count_lengths(d.lengths.tolist()).items()}
    most, total = max(counts.values()), sum(counts.values())
    lines = [
        f"≤ {top:>6,}  {'█' * max(1, round(BAR * n / most)):<{BAR}}  {n:>9,}  "
        f"{n / total:>6.1%}" for top, n in counts.items()
    ]
    return "\n".join(
        [
            *lines,
            f"99 % have at most {d.percentile_99:,} tokens; data.max_length={d.max_length:,}: {d.too_long:,} are "
            f"longer",
        ]
    )


def format_memory(seen: PlanFacts) -> str:
    """The peak by part, in each phase."""
    if seen.memory is None:
        return "  not estimated"
    phases: dict[str, MemoryPart | None] = {name: getattr(seen.memory, name) for name in PHASES}
    there = [(name, part) for name, part in phases.items() if part is not None]
    rows = [
        [n, *(f"{format_size(getattr(part, p)):>{max(9, len(p))}}" for p in PARTS), f"{format_size(part.total):>9}"]
        for n, part in there
    ]
    head = ["phase", *(f"{p:>{max(9, len(p))}}" for p in PARTS), f"{'peak':>9}"]
    m = seen.machine
    return (
        _indent(format_table(head, rows))
        + f"\n  {format_size(m.memory_free)} of {format_size(m.memory_total)} are free on this {m.device}"
    )


def format_time(seen: PlanFacts, probe: Timing | None) -> str:
    """How long it takes, where that was measured."""
    return (
        probe.describe(seen)
        if probe is not None
        else "not measured; --probe loads the model and times a few micro-batches"
    )


def format_disk(seen: PlanFacts) -> str:
    """What checkpoints take."""
    d = seen.disk
    return (
        f"{format_size(d.checkpoint)} a checkpoint; {d.kept} are kept "
        f"(trainer.keep_checkpoints={seen.run.trainer.keep_checkpoints}, and the best) and one is being "
        f"written: {format_size(d.total)}; {format_size(seen.machine.disk_free)} are free"
    )


def format_derived(seen: PlanFacts) -> str:
    """Every value that a rule chose, with its reason."""
    found = [(n, o) for n, o in sorted(seen.origins.items()) if o.derived and o.value is not None]
    return format_labels([(name, f"{_shorten(o.value)}  {o.reason}") for name, o in found], WIDTH)


def format_troubles(troubles: Sequence[Trouble]) -> str:
    """What the rules say, errors first, each with what to paste."""
    rows = []
    for t in troubles:
        label = f"{t.severity}{' (allowed)' * t.allowed}"
        rows.append((label, f"{t.sentence}  [{t.rule}]" + (f"\n→ {t.remedy}" if t.remedy else "")))
    if not rows:
        return "  none: every rule is content"
    return format_labels(rows, WIDTH)


def build_dict(
    seen: PlanFacts, origins: Mapping[str, Decision], troubles: Sequence[Trouble], probe: Timing | None,
) -> dict[str, Any]:
    """The plan as the design has it, with the data's numbers and the probe beside."""
    d, m = seen.data, seen.memory
    assert d is not None
    phases = {n: getattr(m, n) for n in PHASES} if m is not None else {}
    return {
        "knobs": {n: {"value": to_plain(o.value), "origin": o.origin, "reason": o.reason} for n, o in origins.items()},
        "steps": seen.steps,
        "warmup_steps": seen.warmup_steps,
        "tokens": d.tokens,
        "parameters": seen.model.parameters,
        "trainable": seen.model.trained,
        "memory": {"peak": m.peak, **{n: _build_part(p) for n, p in phases.items() if p is not None}}
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


def _build_part(part: MemoryPart) -> dict[str, int]:
    return {name: getattr(part, name) for name in PARTS} | {"total": part.total}


def format_size(n: float) -> str:
    """Bytes as one says them: `512 B`, `1.4 GB`, in powers of ten as disks and our tables have it."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _shorten(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) >= 0.01 else format_value(value)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))
