"""The pages of `fulgurite explain`, as plain text: one knob, one option, one group, and what there is at all."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import get_type_hints

from fulgurite.config.confidence import Sure
from fulgurite.config.run import GROUPS, RunConfig
from fulgurite.config.schema import Knob, Option, describe_kind, list_groups, list_knobs, list_options
from fulgurite.explain import bytes_per_weight as sizes
from fulgurite.explain.choices import Preset, is_default, list_presets
from fulgurite.explain.citations import find_links
from fulgurite.explain.knob_index import (
    COMMANDS,
    Context,
    Shared,
    build_default_run,
    derive_default,
    find_sure,
    list_contexts,
    list_every_knob,
    merge_knobs,
)
from fulgurite.explain.layout import format_kind, format_usual, format_value
from fulgurite.language.catalogue import translate, translate_text
from fulgurite.language.current import get_language
from fulgurite.language.message import message
from fulgurite.text.layout import count_cells, format_labels, format_table, measure_width, pad, wrap_paragraph


def build_knob_page(knobs: Sequence[Knob]) -> str:
    """Returns what each parameter does, its values, reasons and sources; equal declarations of options as one."""
    return "\n\n".join(_build_knob(shared) for shared in merge_knobs(knobs))


def build_option_page(group: str, name: str) -> str:
    """What an option is, when to take it, its knobs, and how to take it; also for a preset."""
    preset = next((p for p in list_presets(group) if p.name == name), None)
    if preset is not None:
        return _build_preset(preset)
    cls, columns = list_options(group)[name], measure_width()
    parts = [f"{group}={name}" + _mark(group, name), wrap_paragraph(get_doc(cls), columns, 2)]
    cost = [(translate("costs"), get_costs(cls)), (translate("common mistakes"), get_misread(cls))]
    parts += [format_labels([row for row in cost if row[1]], columns)] if any(text for _, text in cost) else []
    knobs = [Shared(k, (name,)) for k in list_knobs(cls)]
    parts += [translate("Its parameters:") + "\n" + _format_knobs(knobs, columns, (name,))] if knobs else []
    parts += [wrap_paragraph(note, columns) if "\n" not in note else note for note in _list_notes(cls)]
    more = [(translate("use it"), f"fulgurite train {group}={name}")]
    more += [(translate("a parameter"), f"fulgurite explain {knobs[0].knob.path}")] if knobs else []
    more += [(translate("the curve"), f"fulgurite explain {group}={name} --plot")] if cls.plots else []
    return "\n\n".join([*parts, format_labels(more, columns)])

LEFT_OUT = {
    "strategy": message(
        "Not offered: DeepSpeed. Lightning runs it on GPUs alone; DeepSpeed clips gradients itself, so that neither "
        "the recorded norm nor the check for values that are not finite would hold; its checkpoints are pickles. Its "
        "stages are settings of strategy=fsdp: stage 3 is the default, stages 1 and 2 are strategy.reshard=false, "
        "offloading to the CPU is strategy.offload=true. Offloading to NVMe has no counterpart."
    ),
}
"""What people ask a group for that it does not have, and what to take."""


def build_group_page(group: str) -> str:
    """A group's options side by side, when to take which, and their knobs."""
    columns, named = measure_width(), list_options(group)
    rows = [(name + _mark(group, name), _describe_beside(cls)) for name, cls in named.items()]
    rows += [(p.name, _format_preset(p)) for p in list_presets(group)]
    parts = [wrap_paragraph(f"{group}: {describe_group(group)}" if describe_group(group) else group, columns)]
    parts += [format_labels(rows, columns)] if rows else []
    parts += [format_table(*dtypes)] if (dtypes := _tabulate_dtypes(group)) else []
    parts += _tabulate_bytes() if group == "precision" else []
    parts += [wrap_paragraph(str(LEFT_OUT[group]), columns)] if group in LEFT_OUT else []
    shared = merge_knobs(k for k in list_every_knob() if k.group.partition(".")[0] == group)
    if shared:
        parts.append(translate("Parameters:") + "\n" + _format_knobs(shared, columns, tuple(named)))
    first = next(iter(named), None)
    more = [(translate("an option"), f"fulgurite explain {group}={first}")] if first else []
    more += [(translate("a parameter"), f"fulgurite explain {shared[0].knob.path}")] if shared else []
    return "\n\n".join([*parts, format_labels(more, columns)] if more else parts)


def build_overview() -> str:
    """All groups with their options, and how to ask further."""
    columns = measure_width()
    rows = []
    for group in list_all_groups():
        names = [n + _mark(group, n) for n in list_choices(group)]
        rows.append((group, "\n".join(filter(None, [describe_group(group), ", ".join(names)]))))
    ask = [
        ("fulgurite explain optim.lr", translate("a parameter: what it does, what to set it to, why, and the source")),
        ("fulgurite explain method", translate("a group: its options side by side")),
        ("fulgurite explain method=lora", translate("an option: when to use it, and its parameters")),
        ("fulgurite explain --search warmup", translate("every parameter and option about a word")),
        (
            "fulgurite explain stage=dpo --plot",
            translate("the curves of the preference losses; of schedules, scheduler --plot"),
        ),
        ("fulgurite explain --html > guide.html", translate("all of it as one page for a browser")),
    ]
    root = [Shared(k, ("",)) for k in list_every_knob() if not k.group]
    head = translate("A run picks one option per group (`stage=dpo`) and sets parameters (`optim.lr=1e-4`).")
    parts = [
        head,
        format_labels(rows, columns),
        translate("Parameters of the run itself:") + "\n" + _format_knobs(root, columns, ("",)),
    ]
    return "\n\n".join([*parts, translate("Ask:") + "\n" + format_labels(ask, columns)])


def list_all_groups() -> list[str]:
    """Every group that can be asked for, in the order in which a person chooses; then presets', then other knobs'."""
    others = [p.group for p in list_presets()] + [k.group.partition(".")[0] for k in list_every_knob() if k.group]
    return list(dict.fromkeys([*GROUPS, *list_groups(), *others]))


def list_choices(group: str) -> list[str]:
    """The names of a group's options and presets."""
    return [*list_options(group), *(p.name for p in list_presets(group))]


def _build_knob(shared: Shared) -> str:
    knob, columns = shared.knob, measure_width()
    derived = derive_default(knob)
    head = f"{knob.path} = {format_value(knob.default)}"
    head += (
        translate(", which is {value} in the default run").format(value=format_value(derived.value)) if derived else ""
    )
    rows = [(label, text) for label, text in build_knob_rows(shared) if text]
    return "\n\n".join([head, wrap_paragraph(get_knob_text(knob, "meaning"), columns, 2), format_labels(rows, columns)])


def build_knob_rows(shared: Shared) -> list[tuple[str, str]]:
    """Returns what is known of a parameter beside its meaning: labels and texts, which may be empty."""
    knob = shared.knob
    depends = list_contexts(knob) if callable(knob.usual) else []
    usual = _build_table(depends, knob) if depends else ""
    if knob.usual is not None and not callable(knob.usual):
        usual = format_usual(knob.usual)
    has = [f"{knob.group.partition('.')[0]}={name}" for name in shared.options if name]
    alike = len(has) > 1 and len(has) == len(list_options(knob.group.partition(".")[0]))
    owners = translate("every {group} option").format(group=knob.group) if alike else ", ".join(has)
    met = [f"{other}: {describe_interaction(knob, other)}" for other in knob.interacts]
    texts = {name: get_knob_text(knob, name) for name in TEXTS}
    return [
        (translate("type"), format_kind(describe_kind(knob))),
        (translate("values"), "\n".join(f"{name}: {text}" for name, text in describe_choices(knob).items())),
        (translate("usual"), usual),
        (translate("legal"), format_usual(knob.bounds) if knob.bounds else ""),
        (translate("advice"), texts["advice"]),
        (translate("increase when"), texts["raise_when"]),
        (translate("decrease when"), texts["lower_when"]),
        (translate("leave it when"), texts["leave"]),
        (translate("interacts with"), "\n".join(met)),
        (translate("memory"), texts["memory"]),
        (translate("time"), texts["time"]),
        (translate("common mistake"), texts["misread"]),
        (translate("empty"), _describe_empty(knob)),
        (translate("write"), f"fulgurite {knob.group} {knob.name}=..." if knob.group in COMMANDS else ""),
        (translate("applies to"), owners),
        (translate("source"), format_source(knob.source)),
        (translate("confidence"), translate(SURE[sure]) if (sure := find_sure(knob)) else ""),
        (
            translate("links"),
            "\n".join(address for name, address in find_links(knob.source) if address not in knob.source),
        ),
    ]


LABELS = 18
"""Columns of the labels beside which a table is printed."""
TEXTS = ("meaning", "advice", "raise_when", "lower_when", "leave", "memory", "time", "misread")
"""The texts of a knob that are sentences, by the names of their fields."""
SURE = {
    Sure.measured: "measured here", Sure.verified: "read in the source itself", Sure.paper: "stated in a paper",
    Sure.practice: "practice: docs, or what other tools have", Sure.ours: "our own choice",
}


def format_source(source: str) -> str:
    """Returns a source in the language in use: our own words are translated; titles, names and quotations stay."""
    if get_language() == "en":
        return source
    found = source
    for pattern, words in OUR_WORDS.items():
        found = re.sub(pattern, str(words), found)
    return found


OUR_WORDS = {
    r"\b[Oo]urs\b": message("our own choice"), r"\(verified\)": message("(read in the source)"),
    r"(^|(?<=[;,] ))measured\b": message("measured"), r"(^|(?<=[;,] ))tried\b": message("tried"),
    r"\bdocs\b": message("documentation"),
}
"""What sources contain in our own words."""


def get_knob_text(knob: Knob, name: str) -> str:
    """One of a knob's TEXTS, in the language spoken."""
    return translate_text(knob.path, name, getattr(knob, name))


def describe_choices(knob: Knob) -> dict[str, str]:
    """What each legal value of a knob does, in the language spoken; empty if the declaration does not explain them."""
    return {name: translate_text(knob.path, f"value {name}", text) for name, text in knob.choice_meanings.items()}


def describe_interaction(knob: Knob, other: str) -> str:
    """How a knob meets another, in the language spoken."""
    return translate_text(knob.path, f"interacts {other}", knob.interacts[other])


def _describe_empty(knob: Knob) -> str:
    """Returns what the empty value means, with the reason in the default run."""
    if knob.empty is None:
        return ""
    derived = derive_default(knob)
    words = translate_text(knob.path, "empty", knob.empty.words)
    return f"{words}. By default: {derived.reason}" if derived and get_language() == "en" else words


def _build_table(depends: Sequence[Context], knob: Knob) -> str:
    """Contexts as a table: a row for each stage and the methods that agree, two columns for each model size; or a row
    for each loss."""
    if depends[0].loss:
        return _build_loss_table(depends)
    models = list(dict.fromkeys(c.model for c in depends))
    found_by: dict[tuple[str, str], list[str]] = {}
    for c in depends:
        value = [format_value(c.derived.value)] if c.derived else []
        found_by.setdefault((c.stage, c.method), []).extend([*value, format_usual(c.usual) if c.usual else "-"])
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (stage, method), found in found_by.items():
        rows.setdefault((stage, tuple(found)), []).append(method)
    each = [translate("empty is"), translate("usual")] if any(c.derived for c in depends) else [translate("usual")]
    lines = [[stage, ", ".join(methods), *found] for (stage, found), methods in rows.items()]
    heading = ["stage", "method", *(each * len(models))]
    body = format_table(heading, lines)
    widths = [max(count_cells(row[i]) for row in [heading, *lines]) + 2 for i in range(len(heading))]
    starts = [sum(widths[: 2 + i * len(each)]) for i in range(len(models))]
    over = f"{knob.group}={knob.option}" if knob.group not in ("", "stage", "method", "model") else ""
    if len(models) > 1 and sum(widths) - 2 > measure_width() - LABELS:
        # too narrow for both sizes: one below the other
        parts = []
        for start, model in zip(range(2, len(heading), len(each)), models, strict=True):
            chosen = [*range(2), *range(start, start + len(each))]
            part = format_table([heading[i] for i in chosen], [[line[i] for i in chosen] for line in lines])
            parts.append("  ".join(filter(None, [over, _format_size(model)])) + "\n" + part)
        return "\n".join(parts)
    for start, model in zip(starts, models, strict=True):
        over = pad(over, start) + _format_size(model)
    return f"{over}\n{body}"


def _build_loss_table(depends: Sequence[Context]) -> str:
    head = ["stage.loss", translate("empty is"), translate("usual")]
    values = [format_value(c.derived.value) if c.derived else "-" for c in depends]
    usual = [format_usual(c.usual) if c.usual else "-" for c in depends]
    return format_table(head, list(zip([c.loss for c in depends], values, usual, strict=True)))


def _format_size(model: str) -> str:
    billions = build_default_run(model=model).model.billions()
    if billions is None:
        return translate("7B, or not known")
    return f"{1000 * billions:.0f}M ({model})" if billions < 1 else f"{billions:g}B ({model})"


def _format_knobs(shared: Sequence[Shared], columns: int, of: tuple[str, ...]) -> str:
    """Returns each parameter's name, default and meaning, and its options if not all of `of` have it."""
    names = max(len(s.knob.path) for s in shared)
    labels = [f"{s.knob.path:<{names}}  {format_value(s.knob.default)}" for s in shared]
    texts = [get_knob_text(s.knob, "meaning") + _describe_owners(s, of) for s in shared]
    return format_labels(list(zip(labels, texts, strict=True)), columns)


def _describe_owners(shared: Shared, of: tuple[str, ...]) -> str:
    """The options that have the knob, or the fewer that lack it."""
    lack = [name for name in of if name not in shared.options]
    if not lack:
        return ""
    every_but = translate(" (all but {names})").format(names=", ".join(lack))
    return every_but if len(lack) < len(shared.options) else f" ({', '.join(shared.options)})"


def _build_preset(preset: Preset) -> str:
    columns = measure_width()
    base = f"{preset.group}={preset.base}" if preset.base else translate("A preset")
    prefix = f"{preset.group}." if preset.base else ""
    rows = [(f"{prefix}{name}", format_value(value)) for name, value in preset.changes.items()]
    parts = [
        f"{preset.group}={preset.name}" + _mark(preset.group, preset.name),
        wrap_paragraph(get_purpose(preset), columns, 2),
    ]
    parts += [translate("{base} with:").format(base=base) + "\n" + format_labels(rows, columns)] if rows else []
    how = "" if preset.group in GROUPS else "-m +" if preset.group == "sweep" else "+"  # Hydra wants + for a new group
    return "\n\n".join(
        [*parts, format_labels([(translate("use it"), f"fulgurite train {how}{preset.group}={preset.name}")], columns)]
    )


def _format_preset(preset: Preset) -> str:
    base = translate(" ({base} with other values.)").format(base=f"{preset.group}={preset.base}") if preset.base else ""
    return get_purpose(preset) + base


def _list_notes(cls: type[Option]) -> list[str]:
    """Returns what a page adds to the parameters: a schedule's other names; what a compute type holds in which type."""
    if cls.room == "scheduler":
        from fulgurite.scheduler.equivalence import find_coincidences

        same = "\n".join(
            wrap_paragraph(str(s), measure_width(), 2) for s in find_coincidences(cls.name)
        )
        return [translate("The same curve under another name:") + "\n" + same] if same else []
    dtypes = [(translate(what), getattr(cls, field, "")) for what, field in _DTYPES]
    return (
        [translate("What is held in which type:") + "\n" + format_labels(dtypes, measure_width())]
        if all(t for _, t in dtypes)
        else []
    )


_DTYPES = (
    ("frozen weights", "frozen"), ("trained weights", "trained"), ("compute", "compute"),
    ("gradients", "gradients"), ("optimizer state", "state"),
)


def _tabulate_dtypes(group: str) -> tuple[list[str], list[list[str]]] | None:
    """The types that each compute type fixes, side by side; None for groups that fix none."""
    rows = [[name, *(getattr(cls, field, "") for _, field in _DTYPES)] for name, cls in list_options(group).items()]
    rows = [row for row in rows if all(row)]
    return (["", *(translate(what) for what, _ in _DTYPES)], rows) if rows else None


def _tabulate_bytes() -> list[str]:
    """Bytes a weight under each compute type, for optimizers and for methods that freeze."""
    kinds = sizes.list_compute_types()
    return [
        translate("Bytes a trained weight of a large matrix, as weights + gradients + optimizer state:")
        + "\n\n"
        + format_table(["optim", *kinds], list(sizes.build_trained_table())),
        translate("Bytes a frozen weight of a linear layer:")
        + "\n\n"
        + format_table(["method", *kinds], list(sizes.build_frozen_table())),
    ]


def _mark(group: str, name: str) -> str:
    return translate(" (default)") if is_default(group, name) else ""


def get_doc(cls: type[Option]) -> str:
    """What an option is and when to take it: its docstring on one line."""
    return translate_text(f"{cls.room}={cls.name}", "doc", " ".join((cls.__doc__ or "").split()))


def get_costs(cls: type[Option]) -> str:
    """What an option costs."""
    return translate_text(f"{cls.room}={cls.name}", "costs", cls.costs)


def get_misread(cls: type[Option]) -> str:
    """What is often taken wrongly about an option."""
    return translate_text(f"{cls.room}={cls.name}", "misread", cls.misread)


def get_purpose(preset: Preset) -> str:
    """What a preset is for."""
    return translate_text(f"{preset.group}={preset.name}", "doc", preset.summary)


def _describe_beside(cls: type[Option]) -> str:
    """An option in its group's list: when to take it, what it costs."""
    label = translate("Costs:")
    return get_doc(cls) + (f"\n{label}{'' if label.endswith('：') else ' '}{get_costs(cls)}" if cls.costs else "")


def describe_group(group: str) -> str:
    """What a group chooses."""
    return translate_text(group, "about", read_group_doc(group))


def read_group_doc(group: str) -> str:
    """The first line of the module that declares the group; of its class, if the run has it without options."""
    named = f"fulgurite.{group}.config"
    where = (
        sys.modules.get(named) if list_options(group) else COMMANDS.get(group) or get_type_hints(RunConfig).get(group)
    )
    return ((getattr(where, "__doc__", "") or "").strip().splitlines() or [""])[0]
