"""The pages of `fulgurite explain`, as plain text: one knob, one option, one group, and what there is at all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, get_type_hints

from fulgurite.explain.choices import Preset, default_options, presets
from fulgurite.explain.entries import COMMANDS, Context, Shared, contexts, default_run, everything, filled, merged
from fulgurite.explain.layout import labelled, paragraph, table, usual_words, value_words, width
from fulgurite.precision import sizes
from fulgurite.run import GROUPS, RunConfig
from fulgurite.schema import Derived, Knob, Option, groups, knobs_of, options, type_words


def knob_page(knobs: Sequence[Knob]) -> str:
    """What each knob does, what to set it to, why, and who says so; equal declarations of several options as one."""
    return "\n\n".join(_knob(shared) for shared in merged(knobs))


def option_page(group: str, name: str) -> str:
    """What an option is, when to take it, its knobs, and how to take it; also for a preset."""
    preset = next((p for p in presets(group) if p.name == name), None)
    if preset is not None:
        return _preset(preset)
    cls, columns = options(group)[name], width()
    parts = [f"{group}={name}" + _mark(group, name), paragraph(_doc(cls), columns, 2)]
    knobs = [Shared(k, (name,)) for k in knobs_of(cls)]
    parts += ["Its knobs:\n" + _knob_list(knobs, columns, (name,))] if knobs else []
    parts += [paragraph(note, columns) if "\n" not in note else note for note in _notes(cls)]
    more = [("take it", f"fulgurite train {group}={name}")]
    more += [("a knob", f"fulgurite explain {knobs[0].knob.path}")] if knobs else []
    more += [("the curve", f"fulgurite explain {group}={name} --plot")] if group == "scheduler" else []
    return "\n\n".join([*parts, labelled(more, columns)])


def group_page(group: str) -> str:
    """A group's options side by side, when to take which, and their knobs."""
    columns, named = width(), options(group)
    rows = [(name + _mark(group, name), _doc(cls)) for name, cls in named.items()]
    rows += [(p.name, _preset_words(p)) for p in presets(group)]
    parts = [paragraph(f"{group}: {_about(group)}" if _about(group) else group, columns)]
    parts += [labelled(rows, columns)] if rows else []
    parts += [table(*dtypes)] if (dtypes := _dtypes(group)) else []
    parts += _bytes() if group == "precision" else []
    shared = merged(k for k in everything() if k.group.partition(".")[0] == group)
    if shared:
        parts.append("Knobs:\n" + _knob_list(shared, columns, tuple(named)))
    first = next(iter(named), None)
    more = [("an option", f"fulgurite explain {group}={first}")] if first else []
    more += [("a knob", f"fulgurite explain {shared[0].knob.path}")] if shared else []
    return "\n\n".join([*parts, labelled(more, columns)] if more else parts)


def overview() -> str:
    """All groups with their options, and how to ask further."""
    columns = width()
    rows = []
    for group in all_groups():
        names = [f"{n} (default)" if default_options().get(group) == n else n for n in options_of(group)]
        rows.append((group, "\n".join(filter(None, [_about(group), ", ".join(names)]))))
    ask = [
        ("fulgurite explain optim.lr", "a knob: what it does, what to set it to, why, and who says so"),
        ("fulgurite explain method", "a group: its options side by side"),
        ("fulgurite explain method=lora", "an option: when to take it, and its knobs"),
        ("fulgurite explain --search warmup", "every knob and option that speaks of a word"),
    ]
    root = [Shared(k, ("",)) for k in everything() if not k.group]
    head = "A run is one choice a group (GROUP=OPTION), and knobs (GROUP.KNOB=VALUE)."
    parts = [head, labelled(rows, columns), "Knobs of the run itself:\n" + _knob_list(root, columns, ("",))]
    return "\n\n".join([*parts, "Ask:\n" + labelled(ask, columns)])


def all_groups() -> list[str]:
    """Every group that can be asked for, in the order in which a person chooses; then presets', then other knobs'."""
    others = [p.group for p in presets()] + [k.group.partition(".")[0] for k in everything() if k.group]
    return list(dict.fromkeys([*GROUPS, *groups(), *others]))


def options_of(group: str) -> list[str]:
    """The names of a group's options and presets."""
    return [*options(group), *(p.name for p in presets(group))]


def _knob(shared: Shared) -> str:
    knob, columns = shared.knob, width()
    depends = contexts(knob) if callable(knob.usual) else []
    told = _table_of(depends, knob) if depends else ""
    if knob.usual is not None and not callable(knob.usual):
        told = usual_words(knob.usual)
    derived = _by_default(knob)
    has = [f"{knob.group.partition('.')[0]}={name}" for name in shared.options if name]
    alike = len(has) > 1 and len(has) == len(options(knob.group.partition(".")[0]))
    rows = [
        ("type", type_words(knob.type)),
        ("usual", told),
        ("legal", usual_words(knob.bounds) if knob.bounds else ""),
        ("advice", knob.advice),
        ("empty", f"{knob.empty.words}{f'. By default: {derived.reason}' if derived else ''}" if knob.empty else ""),
        ("give it", f"fulgurite {knob.group} {knob.name}=..." if knob.group in COMMANDS else ""),
        ("of", f"every {knob.group} option" if alike else ", ".join(has)),
        ("source", knob.source),
    ]
    head = f"{knob.path} = {value_words(knob.default)}"
    head += f", which is {value_words(derived.value)} in the default run" if derived else ""
    return "\n\n".join([head, paragraph(knob.meaning, columns, 2), labelled([r for r in rows if r[1]], columns)])


def _by_default(knob: Knob) -> Derived | None:
    """What the empty knob comes to in the default run, where the config alone tells."""
    if knob.empty is None or knob.default is not None:
        return None
    group = knob.group.partition(".")[0]
    run = default_run() if default_options().get(group, "") == knob.option else default_run(**{group: knob.option})
    return filled(run).get(knob.path)


def _table_of(depends: Sequence[Context], knob: Knob) -> str:
    """Contexts as a table: a row for each stage and the methods that agree, two columns for each model size."""
    models = list(dict.fromkeys(c.model for c in depends))
    cells: dict[tuple[str, str], list[str]] = {}
    for c in depends:
        value = [value_words(c.derived.value)] if c.derived else []
        cells.setdefault((c.stage, c.method), []).extend([*value, usual_words(c.usual) if c.usual else "-"])
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (stage, method), found in cells.items():
        rows.setdefault((stage, tuple(found)), []).append(method)
    each = ["empty is", "usual"] if any(c.derived for c in depends) else ["usual"]
    lines = [[stage, ", ".join(methods), *found] for (stage, found), methods in rows.items()]
    body = table(["stage", "method", *(each * len(models))], lines)
    starts = [i for i in range(body.index("\n")) if body.startswith(each[0], i)]
    over = f"{knob.group}={knob.option}" if knob.group not in ("", "stage", "method", "model") else ""
    for start, model in zip(starts, models, strict=True):
        over = over.ljust(start) + _size(model)
    return f"{over}\n{body}"


def _size(model: str) -> str:
    billions = default_run(model=model).model.billions()
    if billions is None:
        return "7B, or not known"
    return f"{1000 * billions:.0f}M ({model})" if billions < 1 else f"{billions:g}B ({model})"


def _knob_list(shared: Sequence[Shared], columns: int, of: tuple[str, ...]) -> str:
    """Each knob's name, default and meaning; whose it is, where not all of `of` have it."""
    names = max(len(s.knob.path) for s in shared)
    rows = [(f"{s.knob.path:<{names}}  {value_words(s.knob.default)}", s.knob.meaning + _whose(s, of)) for s in shared]
    return labelled(rows, columns)


def _whose(shared: Shared, of: tuple[str, ...]) -> str:
    """The options that have the knob, or the fewer that lack it."""
    lack = [name for name in of if name not in shared.options]
    if not lack:
        return ""
    return f" (all but {', '.join(lack)})" if len(lack) < len(shared.options) else f" ({', '.join(shared.options)})"


def _preset(preset: Preset) -> str:
    columns = width()
    base = f"{preset.group}={preset.base}" if preset.base else "A preset"
    prefix = f"{preset.group}." if preset.base else ""
    rows = [(f"{prefix}{name}", value_words(value)) for name, value in preset.changes.items()]
    parts = [f"{preset.group}={preset.name}" + _mark(preset.group, preset.name), paragraph(preset.says, columns, 2)]
    parts += [f"{base} with:\n" + labelled(rows, columns)] if rows else []
    return "\n\n".join([*parts, labelled([("take it", f"fulgurite train {preset.group}={preset.name}")], columns)])


def _preset_words(preset: Preset) -> str:
    return f"{preset.says} ({preset.group}={preset.base} with other values.)" if preset.base else preset.says


def _notes(cls: type[Option]) -> list[str]:
    """What a page tells beyond the knobs: a schedule's other names; what a compute type holds in which type."""
    if cls.room == "scheduler":
        from fulgurite.scheduler.coincide import coincidences

        same = coincidences(cls.name)
        told = "\n".join(paragraph(s, width(), 2) for s in same)
        return [f"The same curve under another name:\n{told}"] if same else []
    dtypes = [(what, getattr(cls, field, "")) for what, field in _DTYPES]
    return ["What is held in which type:\n" + labelled(dtypes, width())] if all(t for _, t in dtypes) else []


_DTYPES = (
    ("frozen weights", "frozen"), ("trained weights", "trained"), ("compute", "compute"),
    ("gradients", "gradients"), ("optimizer state", "state"),
)


def _dtypes(group: str) -> tuple[list[str], list[list[str]]] | None:
    """The types that each compute type fixes, side by side; None for groups that fix none."""
    rows = [[name, *(getattr(cls, field, "") for _, field in _DTYPES)] for name, cls in options(group).items()]
    rows = [row for row in rows if all(row)]
    return (["", *(what for what, _ in _DTYPES)], rows) if rows else None


def _bytes() -> list[str]:
    """Bytes a weight under each compute type, for optimizers and for methods that freeze."""
    kinds = sizes.compute_types()
    return [
        "Bytes a trained weight of a large matrix, as weights + gradients + optimizer state:\n\n"
        + table(["optim", *kinds], list(sizes.trained_table())),
        "Bytes a frozen weight of a linear layer:\n\n" + table(["method", *kinds], list(sizes.frozen_table())),
    ]


def _mark(group: str, name: str) -> str:
    return " (default)" if default_options().get(group) == name else ""


def _doc(cls: Any) -> str:
    return " ".join((cls.__doc__ or "").split())


def _about(group: str) -> str:
    """The first line of the module that declares the group; of its class, where the run has it without options."""
    named = list(options(group).values())
    told = sys.modules.get(named[0].__module__) if named else COMMANDS.get(group) or get_type_hints(RunConfig).get(group)
    return ((getattr(told, "__doc__", "") or "").strip().splitlines() or [""])[0]
