"""The guide's reference: every group with its options, curves and parameters, folded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import cast

from fulgurite.config.decision import Decision
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Knob, Option, Usual, list_options
from fulgurite.explain.aliases import list_aliases
from fulgurite.explain.choices import Preset, is_default, list_presets, read_default_options
from fulgurite.explain.curves import draw_loss, draw_schedule
from fulgurite.explain.knob_index import (
    Context,
    Shared,
    build_default_run,
    derive_default,
    list_contexts,
    list_every_knob,
    merge_knobs,
)
from fulgurite.explain.layout import format_usual, format_value
from fulgurite.explain.page_parts import (
    build_badge,
    build_facts,
    build_table,
    draw_range,
    format_rich,
    grade_value,
    is_translated,
    link_names,
)
from fulgurite.explain.pages import (
    build_knob_rows,
    describe_group,
    describe_interaction,
    get_costs,
    get_doc,
    get_knob_text,
    get_misread,
    get_purpose,
    list_all_groups,
)
from fulgurite.explain.titles import TITLES, get_group_title, get_title
from fulgurite.foreign_names.table import list_foreign_names
from fulgurite.language import message
from fulgurite.language.catalogue import translate, translate_text
from fulgurite.scheduler.config import Scheduler
from fulgurite.stage.preference_table import list_names

DRAWN = {
    "scheduler": "The share of optim.lr by optimizer step",
    "stage": "The preference losses over the margin of log-probabilities, each at its own beta; "
    "the dashed line is a margin of 0",
}
"""The headings of the curves, by group."""


def build_reference() -> str:
    """Returns the section with all groups, and what belongs to the run itself."""
    legend = message("The line is what is allowed, the band what is usual, the mark the value in the default run.")
    groups = "".join(build_group(group) for group in list_all_groups())
    own = merge_knobs(k for k in list_every_knob() if not k.group)
    return (
        f'<section id="reference"><h2>{message("Reference")}</h2><p class="lead">{legend}</p>{groups}'
        f"{_fold_group('run', '', own, '')}</section>\n"
    )


def build_group(group: str) -> str:
    """Returns a group: its options, its presets, its curves, its parameters."""
    options = "".join(_build_option(group, name, cls) for name, cls in list_options(group).items())
    presets = "".join(map(_build_preset, list_presets(group)))
    knobs = merge_knobs(k for k in list_every_knob() if k.group.partition(".")[0] == group)
    box = f'<div class="options">{options}{presets}</div>' if options or presets else ""
    return _fold_group(group, describe_group(group), knobs, box + _draw_curves(group))


def _fold_group(group: str, about: str, knobs: Sequence[Shared], before: str) -> str:
    # a knob that options declare each in their own way has one anchor
    first = {s.knob.path: s for s in reversed(knobs)}
    folded = "".join(build_knob(shared, anchored=first[shared.knob.path] is shared) for shared in knobs)
    count = f"<small>{message('{n} parameters', n=len(first))}</small>" if len(first) > 1 else ""
    return (
        f'<details class="hit group" id="{group}"{_name_elsewhere(group)}><summary>'
        f"<h3>{escape(get_group_title(group))} <code>{group}</code></h3>"
        f"{count}<p>{format_rich(about)}</p></summary>{before}{folded}</details>\n"
    )


def _build_option(group: str, name: str, cls: type[Option]) -> str:
    mark = f" <small>{escape(translate(' (default)').strip())}</small>" if is_default(group, name) else ""
    cost = f'<p class="soft">{escape(translate("Costs:"))} {format_rich(get_costs(cls))}</p>' if cls.costs else ""
    wrong = f'<p class="wrong">{format_rich(get_misread(cls))}</p>' if cls.misread else ""
    return (
        f'<div class="hit option" id="{group}={name}"{_name_elsewhere(f"{group}={name}")}>'
        f"<h4><code>{escape(name)}</code>{mark}</h4>"
        f"<div><p>{format_rich(get_doc(cls))}</p>{cost}{wrong}</div></div>"
    )


def _build_preset(preset: Preset) -> str:
    return (
        f'<div class="hit option" id="{preset.group}={preset.name}"{_name_elsewhere(f"{preset.group}={preset.name}")}>'
        f"<h4><code>{escape(preset.name)}</code></h4>"
        f"<div><p>{format_rich(get_purpose(preset))}</p></div></div>"
    )


def _draw_curves(group: str) -> str:
    if group == "scheduler":
        drawn = [(name, draw_schedule(cast("type[Scheduler]", cls))) for name, cls in list_options(group).items()]
    elif group == "stage":
        drawn = [(f"dpo: {loss}", draw_loss(loss)) for loss in list_names()]
    else:
        return ""
    figures = "".join(f"<figure>{picture}<figcaption>{escape(name)}</figcaption></figure>" for name, picture in drawn)
    return f'<details class="plots"><summary>{escape(translate(DRAWN[group]))}</summary>' \
        f'<div class="curves">{figures}</div></details>'


def build_knob(shared: Shared, anchored: bool) -> str:
    """Returns a parameter, folded to its title, path, value and badge."""
    knob = shared.knob
    derived = derive_default(knob)
    anchor = f' id="{escape(knob.path)}"' if anchored else ""
    value = format_value(knob.default)
    if derived:
        value += translate(", which is {value} in the default run").format(value=format_value(derived.value))
    names = _name_elsewhere(knob.path)
    options = "" if anchored or len(shared.options) > 3 else f" <small>{escape(', '.join(shared.options))}</small>"
    body = [f"<p>{format_rich(get_knob_text(knob, 'meaning'))}</p>", _draw_knob(knob, derived)]
    body.append(_build_context_table(list_contexts(knob)) if callable(knob.usual) else "")
    body.append(build_facts(_list_rows(shared, derived)))
    return (
        f'<details class="hit knob"{anchor}{names}><summary><b>{escape(get_title(knob.path))}</b> '
        f"<code>{escape(knob.path)}</code>{options} <small>= {escape(value)}</small> "
        f"{build_badge(grade_value(knob.sure, derived))}</summary>{''.join(body)}</details>"
    )


def _list_rows(shared: Shared, derived: Decision | None) -> dict[str, str]:
    """Returns the labels of a parameter with their texts as HTML."""
    knob, rows = shared.knob, {}
    skipped = {translate("links"), translate("confidence")}
    for label, text in build_knob_rows(shared):
        if label in skipped or (label == translate("usual") and callable(knob.usual)):
            continue
        if label == translate("source"):
            rows[label] = link_names(text)
        elif label == translate("interacts with"):
            rows[label] = _link_interactions(knob)
        else:
            rows[label] = format_rich(text)
    if knob.empty is not None:
        rows[translate("empty")] = _describe_empty(knob, derived)
    rows[str(message("elsewhere"))] = _list_owners(knob.path)
    return rows


def _list_owners(path: str) -> str:
    """Returns the names that other tools have for a parameter, each with its owners."""
    owners: dict[str, list[str]] = {}
    for owner, name in list_foreign_names(path):
        owners.setdefault(name, []).append(owner)
    return ", ".join(f"<code>{escape(name)}</code> ({', '.join(found)})" for name, found in owners.items())


def _name_elsewhere(path: str) -> str:
    """Returns the attribute in which the search finds the other names of a parameter, an option or a group."""
    aliases = list_aliases(path)
    return f' data-names="{escape("|".join(aliases))}"' if aliases else ""


def _link_interactions(knob: Knob) -> str:
    """Returns the parameters that a parameter meets, as links, each with how."""
    linked = (f'<a href="#{p}">{p}</a>' if p in TITLES or "=" in p else escape(p) for p in knob.interacts)
    descriptions = (format_rich(describe_interaction(knob, other)) for other in knob.interacts)
    return "<br>".join(f"{name}: {words}" for name, words in zip(linked, descriptions, strict=True))


def _describe_empty(knob: Knob, derived: Decision | None) -> str:
    """Returns what the empty value is, and in the default run why, if the reason exists in the language in use."""
    assert knob.empty is not None
    words = translate_text(knob.path, "empty", knob.empty.words)
    if derived is None or not is_translated(derived.because):
        return format_rich(words)
    return format_rich(str(message("{words}. In the default run: {reason}", words=words, reason=derived.because)))


def _draw_knob(knob: Knob, derived: Decision | None) -> str:
    value = derived.value if derived else knob.default
    values = value if isinstance(value, list) else [value]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return draw_range(knob.bounds, _find_usual(knob), numbers)


def _find_usual(knob: Knob) -> Usual | None:
    """Returns the usual values in the default run, with the parameter's own option."""
    if not callable(knob.usual):
        return knob.usual
    group = knob.group.partition(".")[0]
    return knob.find_usual(_fill_default(group, knob.option))


def _fill_default(group: str, option: str) -> RunConfig:
    chosen = {} if read_default_options().get(group, "") == option else {group: option}
    return fill_run(build_default_run(**chosen), Facts())[0]


def _build_context_table(contexts: Sequence[Context]) -> str:
    """Returns a table: a row for each stage and the methods that agree, a column for each size of model."""
    if contexts and contexts[0].loss:
        return _build_loss_table(contexts)
    models = list(dict.fromkeys(c.model for c in contexts))
    found: dict[tuple[str, str], list[str]] = {}
    for c in contexts:
        found.setdefault((c.stage, c.method), []).append(_build_cell(c))
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (stage, method), cells in found.items():
        rows.setdefault((stage, tuple(cells)), []).append(method)
    lines = [[stage, ", ".join(methods), *cells] for (stage, cells), methods in rows.items()]
    return build_table(["stage", "method", *map(_name_size, models)], lines, "contexts")


def _build_loss_table(contexts: Sequence[Context]) -> str:
    """Returns a table with a row for each loss that reads the parameter."""
    return build_table(["stage.loss", ""], [[c.loss, _build_cell(c)] for c in contexts], "contexts")


def _build_cell(context: Context) -> str:
    value = f"<b>{escape(format_value(context.derived.value))}</b> " if context.derived else ""
    return value + (f"<small>{escape(format_usual(context.usual))}</small>" if context.usual else "–")


def _name_size(model: str) -> str:
    billions = build_default_run(model=model).model.billions()
    if billions is None:
        return escape(translate("7B, or not known"))
    return f"{1000 * billions:.0f}M" if billions < 1 else f"{billions:g}B"
