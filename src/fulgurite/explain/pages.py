"""The pages of `fulgurite explain`, as plain text: one knob, one option, one group, and what there is at all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_type_hints

from fulgurite.config.confidence import Sure
from fulgurite.config.decision import Decision
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import GROUPS, Facts, RunConfig
from fulgurite.config.schema import Knob, Option, groups, knobs_of, options, words_of
from fulgurite.explain import bytes_per_weight as sizes
from fulgurite.explain.choices import Preset, default_options, is_default, presets
from fulgurite.explain.citations import links
from fulgurite.explain.knob_index import COMMANDS, Context, Shared, contexts, default_run, everything, merged
from fulgurite.explain.layout import kind_words, usual_words, value_words
from fulgurite.explain.translations import current, fixed, told
from fulgurite.text.layout import count_cells, format_labels, format_table, measure_width, pad, wrap_paragraph

if TYPE_CHECKING:
    from fulgurite.scheduler.equivalence import Coincidence


def knob_page(knobs: Sequence[Knob]) -> str:
    """What each knob does, what to set it to, why, and who says so; equal declarations of several options as one."""
    return "\n\n".join(_knob(shared) for shared in merged(knobs))


def option_page(group: str, name: str) -> str:
    """What an option is, when to take it, its knobs, and how to take it; also for a preset."""
    preset = next((p for p in presets(group) if p.name == name), None)
    if preset is not None:
        return _preset(preset)
    cls, columns = options(group)[name], measure_width()
    parts = [f"{group}={name}" + _mark(group, name), wrap_paragraph(doc(cls), columns, 2)]
    cost = [(fixed("costs"), costs(cls)), (fixed("often misread"), misread(cls))]
    parts += [format_labels([row for row in cost if row[1]], columns)] if any(text for _, text in cost) else []
    knobs = [Shared(k, (name,)) for k in knobs_of(cls)]
    parts += [fixed("Its knobs:") + "\n" + _knob_list(knobs, columns, (name,))] if knobs else []
    parts += [wrap_paragraph(note, columns) if "\n" not in note else note for note in _notes(cls)]
    more = [(fixed("take it"), f"fulgurite train {group}={name}")]
    more += [(fixed("a knob"), f"fulgurite explain {knobs[0].knob.path}")] if knobs else []
    more += [(fixed("the curve"), f"fulgurite explain {group}={name} --plot")] if cls.plots else []
    return "\n\n".join([*parts, format_labels(more, columns)])


def group_page(group: str) -> str:
    """A group's options side by side, when to take which, and their knobs."""
    columns, named = measure_width(), options(group)
    rows = [(name + _mark(group, name), _beside(cls)) for name, cls in named.items()]
    rows += [(p.name, _preset_words(p)) for p in presets(group)]
    parts = [wrap_paragraph(f"{group}: {about(group)}" if about(group) else group, columns)]
    parts += [format_labels(rows, columns)] if rows else []
    parts += [format_table(*dtypes)] if (dtypes := _dtypes(group)) else []
    parts += _bytes() if group == "precision" else []
    shared = merged(k for k in everything() if k.group.partition(".")[0] == group)
    if shared:
        parts.append(fixed("Knobs:") + "\n" + _knob_list(shared, columns, tuple(named)))
    first = next(iter(named), None)
    more = [(fixed("an option"), f"fulgurite explain {group}={first}")] if first else []
    more += [(fixed("a knob"), f"fulgurite explain {shared[0].knob.path}")] if shared else []
    return "\n\n".join([*parts, format_labels(more, columns)] if more else parts)


def overview() -> str:
    """All groups with their options, and how to ask further."""
    columns = measure_width()
    rows = []
    for group in all_groups():
        names = [n + _mark(group, n) for n in options_of(group)]
        rows.append((group, "\n".join(filter(None, [about(group), ", ".join(names)]))))
    ask = [
        ("fulgurite explain optim.lr", fixed("a knob: what it does, what to set it to, why, and who says so")),
        ("fulgurite explain method", fixed("a group: its options side by side")),
        ("fulgurite explain method=lora", fixed("an option: when to take it, and its knobs")),
        ("fulgurite explain --search warmup", fixed("every knob and option that speaks of a word")),
        (
            "fulgurite explain stage=dpo --plot",
            fixed("the curves of the preference losses; of schedules, scheduler --plot"),
        ),
        ("fulgurite explain --html > guide.html", fixed("all of it as one page for a browser")),
    ]
    root = [Shared(k, ("",)) for k in everything() if not k.group]
    head = fixed("A run is one choice a group (GROUP=OPTION), and knobs (GROUP.KNOB=VALUE).")
    parts = [
        head,
        format_labels(rows, columns),
        fixed("Knobs of the run itself:") + "\n" + _knob_list(root, columns, ("",)),
    ]
    return "\n\n".join([*parts, fixed("Ask:") + "\n" + format_labels(ask, columns)])


def all_groups() -> list[str]:
    """Every group that can be asked for, in the order in which a person chooses; then presets', then other knobs'."""
    others = [p.group for p in presets()] + [k.group.partition(".")[0] for k in everything() if k.group]
    return list(dict.fromkeys([*GROUPS, *groups(), *others]))


def options_of(group: str) -> list[str]:
    """The names of a group's options and presets."""
    return [*options(group), *(p.name for p in presets(group))]


def _knob(shared: Shared) -> str:
    knob, columns = shared.knob, measure_width()
    derived = by_default(knob)
    head = f"{knob.path} = {value_words(knob.default)}"
    head += fixed(", which is {value} in the default run").format(value=value_words(derived.value)) if derived else ""
    said = [(label, text) for label, text in knob_rows(shared) if text]
    return "\n\n".join([head, wrap_paragraph(knob_text(knob, "meaning"), columns, 2), format_labels(said, columns)])


def knob_rows(shared: Shared) -> list[tuple[str, str]]:
    """What is told of a knob beside its meaning: labels and texts, empty where there is nothing to tell."""
    knob = shared.knob
    depends = contexts(knob) if callable(knob.usual) else []
    usual = _table_of(depends, knob) if depends else ""
    if knob.usual is not None and not callable(knob.usual):
        usual = usual_words(knob.usual)
    has = [f"{knob.group.partition('.')[0]}={name}" for name in shared.options if name]
    alike = len(has) > 1 and len(has) == len(options(knob.group.partition(".")[0]))
    texts = {name: knob_text(knob, name) for name in TEXTS}
    return [
        (fixed("type"), kind_words(words_of(knob))),
        (fixed("usual"), usual),
        (fixed("legal"), usual_words(knob.bounds) if knob.bounds else ""),
        (fixed("advice"), texts["advice"]),
        (fixed("raise it"), texts["raise_when"]),
        (fixed("lower it"), texts["lower_when"]),
        (fixed("leave it"), texts["leave"]),
        (fixed("meets"), "\n".join(f"{other}: {interacts(knob, other)}" for other in knob.interacts)),
        (fixed("memory"), texts["memory"]),
        (fixed("time"), texts["time"]),
        (fixed("misread"), texts["misread"]),
        (fixed("empty"), _empty_words(knob)),
        (fixed("give it"), f"fulgurite {knob.group} {knob.name}=..." if knob.group in COMMANDS else ""),
        (fixed("of"), fixed("every {group} option").format(group=knob.group) if alike else ", ".join(has)),
        (fixed("source"), knob.source),
        (fixed("sure"), fixed(SURE[knob.sure]) if knob.sure else ""),
        (fixed("links"), "\n".join(address for name, address in links(knob.source) if address not in knob.source)),
    ]


TEXTS = ("meaning", "advice", "raise_when", "lower_when", "leave", "memory", "time", "misread")
"""The texts of a knob that are sentences, by the names of their fields."""
SURE = {
    Sure.measured: "measured here", Sure.verified: "read in the source itself", Sure.paper: "a paper says so",
    Sure.practice: "practice: docs, or what other tools have", Sure.ours: "our own choice",
}


def knob_text(knob: Knob, name: str) -> str:
    """One of a knob's TEXTS, in the language spoken."""
    return told(knob.path, name, getattr(knob, name))


def interacts(knob: Knob, other: str) -> str:
    """How a knob meets another, in the language spoken."""
    return told(knob.path, f"interacts {other}", knob.interacts[other])


def _empty_words(knob: Knob) -> str:
    """What the empty value stands for; with the reason in English alone, for that is made of the run's own numbers."""
    if knob.empty is None:
        return ""
    derived = by_default(knob)
    words = told(knob.path, "empty", knob.empty.words)
    return f"{words}. By default: {derived.reason}" if derived and current() == "en" else words


def by_default(knob: Knob) -> Decision | None:
    """What the empty knob comes to in the default run, where the config alone tells."""
    if knob.empty is None or knob.default is not None:
        return None
    group = knob.group.partition(".")[0]
    run = default_run() if default_options().get(group, "") == knob.option else default_run(**{group: knob.option})
    return next((found for found in fill_run(run, Facts())[1] if found.parameter == knob.path), None)


def _table_of(depends: Sequence[Context], knob: Knob) -> str:
    """Contexts as a table: a row for each stage and the methods that agree, two columns for each model size."""
    models = list(dict.fromkeys(c.model for c in depends))
    found_by: dict[tuple[str, str], list[str]] = {}
    for c in depends:
        value = [value_words(c.derived.value)] if c.derived else []
        found_by.setdefault((c.stage, c.method), []).extend([*value, usual_words(c.usual) if c.usual else "-"])
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (stage, method), found in found_by.items():
        rows.setdefault((stage, tuple(found)), []).append(method)
    each = [fixed("empty is"), fixed("usual")] if any(c.derived for c in depends) else [fixed("usual")]
    lines = [[stage, ", ".join(methods), *found] for (stage, found), methods in rows.items()]
    heading = ["stage", "method", *(each * len(models))]
    body = format_table(heading, lines)
    widths = [max(count_cells(row[i]) for row in [heading, *lines]) + 2 for i in range(len(heading))]
    starts = [sum(widths[: 2 + i * len(each)]) for i in range(len(models))]
    over = f"{knob.group}={knob.option}" if knob.group not in ("", "stage", "method", "model") else ""
    for start, model in zip(starts, models, strict=True):
        over = pad(over, start) + _size(model)
    return f"{over}\n{body}"


def _size(model: str) -> str:
    billions = default_run(model=model).model.billions()
    if billions is None:
        return fixed("7B, or not known")
    return f"{1000 * billions:.0f}M ({model})" if billions < 1 else f"{billions:g}B ({model})"


def _knob_list(shared: Sequence[Shared], columns: int, of: tuple[str, ...]) -> str:
    """Each knob's name, default and meaning; whose it is, where not all of `of` have it."""
    names = max(len(s.knob.path) for s in shared)
    labels = [f"{s.knob.path:<{names}}  {value_words(s.knob.default)}" for s in shared]
    texts = [knob_text(s.knob, "meaning") + _whose(s, of) for s in shared]
    return format_labels(list(zip(labels, texts, strict=True)), columns)


def _whose(shared: Shared, of: tuple[str, ...]) -> str:
    """The options that have the knob, or the fewer that lack it."""
    lack = [name for name in of if name not in shared.options]
    if not lack:
        return ""
    every_but = fixed(" (all but {names})").format(names=", ".join(lack))
    return every_but if len(lack) < len(shared.options) else f" ({', '.join(shared.options)})"


def _preset(preset: Preset) -> str:
    columns = measure_width()
    base = f"{preset.group}={preset.base}" if preset.base else fixed("A preset")
    prefix = f"{preset.group}." if preset.base else ""
    rows = [(f"{prefix}{name}", value_words(value)) for name, value in preset.changes.items()]
    parts = [
        f"{preset.group}={preset.name}" + _mark(preset.group, preset.name),
        wrap_paragraph(says(preset), columns, 2),
    ]
    parts += [fixed("{base} with:").format(base=base) + "\n" + format_labels(rows, columns)] if rows else []
    how = "" if preset.group in GROUPS else "-m +" if preset.group == "sweep" else "+"  # Hydra wants + for a new group
    return "\n\n".join(
        [*parts, format_labels([(fixed("take it"), f"fulgurite train {how}{preset.group}={preset.name}")], columns)]
    )


def _preset_words(preset: Preset) -> str:
    base = fixed(" ({base} with other values.)").format(base=f"{preset.group}={preset.base}") if preset.base else ""
    return says(preset) + base


def _notes(cls: type[Option]) -> list[str]:
    """What a page tells beyond the knobs: a schedule's other names; what a compute type holds in which type."""
    if cls.room == "scheduler":
        from fulgurite.scheduler.equivalence import find_coincidences

        same = "\n".join(wrap_paragraph(_coincidence(s), measure_width(), 2) for s in find_coincidences(cls.name))
        return [fixed("The same curve under another name:") + "\n" + same] if same else []
    dtypes = [(fixed(what), getattr(cls, field, "")) for what, field in _DTYPES]
    return (
        [fixed("What is held in which type:") + "\n" + format_labels(dtypes, measure_width())]
        if all(t for _, t in dtypes)
        else []
    )


def _coincidence(found: Coincidence) -> str:
    """The sentence about two equal schedules in the current language."""
    if current() == "en":
        return str(found)
    how = fixed("exactly")
    if not found.exact:
        how = fixed("to within {number} % of the peak rate").format(number=found.percent)
    return fixed("{one} is the same curve as {other}, {how}.").format(one=found.one, other=found.other, how=how)


_DTYPES = (
    ("frozen weights", "frozen"), ("trained weights", "trained"), ("compute", "compute"),
    ("gradients", "gradients"), ("optimizer state", "state"),
)


def _dtypes(group: str) -> tuple[list[str], list[list[str]]] | None:
    """The types that each compute type fixes, side by side; None for groups that fix none."""
    rows = [[name, *(getattr(cls, field, "") for _, field in _DTYPES)] for name, cls in options(group).items()]
    rows = [row for row in rows if all(row)]
    return (["", *(fixed(what) for what, _ in _DTYPES)], rows) if rows else None


def _bytes() -> list[str]:
    """Bytes a weight under each compute type, for optimizers and for methods that freeze."""
    kinds = sizes.compute_types()
    return [
        fixed("Bytes a trained weight of a large matrix, as weights + gradients + optimizer state:")
        + "\n\n"
        + format_table(["optim", *kinds], list(sizes.trained_table())),
        fixed("Bytes a frozen weight of a linear layer:")
        + "\n\n"
        + format_table(["method", *kinds], list(sizes.frozen_table())),
    ]


def _mark(group: str, name: str) -> str:
    return fixed(" (default)") if is_default(group, name) else ""


def doc(cls: type[Option]) -> str:
    """What an option is and when to take it: its docstring on one line."""
    return told(f"{cls.room}={cls.name}", "doc", " ".join((cls.__doc__ or "").split()))


def costs(cls: type[Option]) -> str:
    """What an option costs."""
    return told(f"{cls.room}={cls.name}", "costs", cls.costs)


def misread(cls: type[Option]) -> str:
    """What is often taken wrongly about an option."""
    return told(f"{cls.room}={cls.name}", "misread", cls.misread)


def says(preset: Preset) -> str:
    """What a preset is for."""
    return told(f"{preset.group}={preset.name}", "doc", preset.says)


def _beside(cls: type[Option]) -> str:
    """An option in its group's list: when to take it, what it costs."""
    label = fixed("Costs:")
    return doc(cls) + (f"\n{label}{'' if label.endswith('：') else ' '}{costs(cls)}" if cls.costs else "")


def about(group: str) -> str:
    """What a group chooses."""
    return told(group, "about", about_english(group))


def about_english(group: str) -> str:
    """The first line of the module that declares the group; of its class, where the run has it without options."""
    named = f"fulgurite.{group}.config"
    where = sys.modules.get(named) if options(group) else COMMANDS.get(group) or get_type_hints(RunConfig).get(group)
    return ((getattr(where, "__doc__", "") or "").strip().splitlines() or [""])[0]
