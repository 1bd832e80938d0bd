"""The guide's first screen: from data, machine and size of the model to stage, method, three values and a command."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fulgurite.config.schema import Knob, Range, list_knobs, list_options
from fulgurite.explain.decision_table import (
    DATA,
    MACHINES,
    DataKind,
    MachineKind,
    MethodChoice,
    SettingChoice,
    build_command,
    choose_method,
    find_largest,
    find_setting,
    measure_gigabytes,
)
from fulgurite.explain.layout import format_value
from fulgurite.explain.model_shapes import LENGTH, SHAPES, ModelShape
from fulgurite.explain.page_parts import (
    build_badge,
    build_table,
    draw_range,
    format_rich,
    grade_value,
    is_translated,
    join_sentences,
)
from fulgurite.explain.pages import get_doc
from fulgurite.explain.titles import get_title
from fulgurite.language import UserMessage, message
from fulgurite.language.catalogue import translate_text

START = (DATA[0], MACHINES[4], SHAPES[4])
"""The answer that the page opens with: examples, a GPU with 24 GB, 7B."""
REASON = "§"
"""Where the reason of the rate belongs in its card."""
SLOW = 1.0
"""Billions of parameters from which a CPU is slow."""


def build_decision() -> str:
    """Returns the section: three questions, the answer, and the same as tables."""
    head = message("What should I train, and how?")
    lead = message("Choose what you have. Each value comes from the declarations that the program itself uses.")
    return (
        f'<section id="decide"><h2>{head}</h2><p class="lead">{lead}</p>{_build_questions()}'
        f'<div id="answer">{_build_answer(*START)}</div>{_build_tables()}</section>\n'
    )


def build_answers_json() -> str:
    """Returns every answer for the page's script: pieces of HTML, and their numbers by data, machine and size."""
    numbers: dict[str, int] = {}
    found: dict[str, Any] = {}
    for data in DATA:
        for machine in MACHINES:
            for shape in SHAPES:
                pieces = [number_piece(numbers, piece) for piece in _list_pieces(data, machine, shape)]
                found.setdefault(data.key, {}).setdefault(machine.key, {})[shape.label] = pieces
    text = json.dumps({"pieces": list(numbers), "answers": found}, ensure_ascii=False, separators=(",", ":"))
    # a `</script>` in a text would end the element that holds this JSON
    return text.replace("</", "<\\/")


def number_piece(numbers: dict[str, int], piece: str) -> int:
    """Returns the number of a piece, a new one for a piece that was not seen yet."""
    return numbers.setdefault(piece, len(numbers))


def _build_questions() -> str:
    asked = (
        ("data", message("What data do you have?"), [(d.key, str(d.title), d.example) for d in DATA]),
        ("machine", message("What machine?"), [(m.key, str(m.title), "") for m in MACHINES]),
        ("size", message("What size of model?"), [(s.label, s.label, "") for s in SHAPES]),
    )
    chosen = {"data": START[0].key, "machine": START[1].key, "size": START[2].label}
    groups = []
    for name, question, options in asked:
        chips = []
        for key, label, example in options:
            code = f"<code>{escape(example)}</code>" if example else ""
            on = " checked" if chosen[name] == key else ""
            chips.append(
                f'<label><input type="radio" name="{name}" value="{key}"{on}><span>{escape(label)}{code}</span></label>'
            )
        groups.append(f'<fieldset class="{name}"><legend>{question}</legend>{"".join(chips)}</fieldset>')
    return f'<form class="ask js">{"".join(groups)}</form>'


def _build_answer(data: DataKind, machine: MachineKind, shape: ModelShape) -> str:
    named = message("{data} · {machine} · {size}", data=data.title, machine=machine.title, size=shape.label)
    stage, method, lr, why, times, size, words = _list_pieces(data, machine, shape)
    parts = {"stage": stage, "method": method, "settings": lr.replace(REASON, why) + times + size}
    body = "".join(f'<div class="{slot}" data-slot="{slot}">{piece}</div>' for slot, piece in parts.items())
    check = message("First look at the plan: it loads nothing, and says what the run needs and how long it takes.")
    copy = message("copy")
    blocks = "".join(
        f'<div class="copy"><pre>fulgurite {name} <span data-words>{words}</span></pre>'
        f'<button type="button" class="js">{copy}</button></div>'
        for name in ("plan", "train")
    )
    return f'<p class="given no-js">{named}</p>{body}<div class="command"><p>{check}</p>{blocks}</div>'


def _list_pieces(data: DataKind, machine: MachineKind, shape: ModelShape) -> list[str]:
    """Returns the pieces of an answer as HTML: stage, method, rate and its reason, two settings, words of the command.

    The reason is apart from its card, because it differs for each size and the card does not.
    """
    choice = choose_method(data.stage, shape, machine)
    doc = get_doc(list_options("stage")[data.stage])
    stage = f'<h3>{message("Stage")} <a href="#stage={data.stage}">stage={data.stage}</a></h3><p>{format_rich(doc)}</p>'
    kind: Any = list_options("stage")[data.stage]
    if kind.refers or kind.rolls_out:  # a model that can do the task already
        first = message(
            "If the model cannot do the task yet, train with `stage=sft` first and give that run's folder as "
            "`model.path`."
        )
        stage += f"<p>{format_rich(str(first))}</p>"
    words = escape(build_command(data, shape, choice), quote=False)
    settings = _list_settings(data, shape, choice)
    return [stage, _describe_method(data, machine, shape, choice), *settings, words]


def _describe_method(data: DataKind, machine: MachineKind, shape: ModelShape, choice: MethodChoice) -> str:
    """Returns the method with the memory that it needs on this machine."""
    need, have, length = f"{choice.gigabytes:.0f}", machine.gigabytes, f"{LENGTH:,}"
    words: list[UserMessage] = []
    if choice.fits:
        words.append(message(
            "Needs about {need} of {have} GB, with one example of {length} tokens at a time.",
            need=need, have=have, length=length,
        ))
        share = min(choice.gigabytes / machine.gigabytes, 1.0)
    else:
        words.append(message(
            "Does not fit: even this needs about {need} GB. Take a smaller model or more memory.", need=need
        ))
        best = find_largest(data.stage, machine)
        words.append(message("The largest of these models that fits here is {size}.", size=best.label))
        share = 1.0
    if choice.checkpointing and choice.fits:
        words.append(message("Gradient checkpointing is on: less memory, about a third more time."))
    chosen: Any = list_options("method")[choice.method]
    if chosen.quantised and choice.fits:
        lora = measure_gigabytes(data.stage, "lora", shape, machine.device, True)
        words.append(message("LoRA on an unquantised base would need about {lora} GB.", lora=f"{lora:.0f}"))
    if machine.device == "cpu" and shape.billions > SLOW:
        words.append(message("A CPU trains a model of this size slowly; the plan estimates how long."))
    if chosen.whole:
        words.append(message("All weights fit, and plain text teaches them more than an adapter would learn."))
    kind = "" if choice.fits else " over"
    # an attribute of SVG, because the board's Content-Security-Policy allows no style attribute
    gauge = f'<svg class="gauge{kind}" aria-hidden="true"><rect width="{share:.0%}" height="100%"/></svg>'
    link = f'<a href="#method={choice.method}">method={choice.method}</a>'
    return f'<h3>{message("Method")} {link}</h3>{gauge}<p>{join_sentences(words)}</p>'


def _list_settings(data: DataKind, shape: ModelShape, choice: MethodChoice) -> list[str]:
    """Returns the settings that matter: learning rate and its reason, epochs and batch, and rank or length."""

    def find(path: str) -> SettingChoice:
        return find_setting(data.stage, choice.method, shape.billions, path)

    epochs, batch = find("trainer.epochs"), find("trainer.global_batch_size")
    times = message("{epochs} × the data, {batch} a step", epochs=format_value(epochs.value), batch=batch.value)
    paths = (epochs.path, batch.path)
    rate = find("optim.lr")
    rows = [_build_setting([rate], reason=REASON), format_rich(explain_setting(rate))]
    rows.append(_build_setting([epochs, batch], str(times), paths))
    chosen: Any = list_options("method")[choice.method]
    if chosen.whole:
        length = find("data.max_length")
        return [*rows, _build_setting([length], str(message("from the data")), reason=get_empty_words(length))]
    rank, alpha = find("method.rank"), find("method.alpha")
    both = message("rank {rank}, alpha {alpha}", rank=rank.value, alpha=format_value(alpha.value))
    return [*rows, _build_setting([rank, alpha], str(both), (rank.path, alpha.path))]


def _build_setting(found: list[SettingChoice], shown: str = "", paths: tuple[str, ...] = (), reason: str = "") -> str:
    """Returns a card: title, value, range, and the reason of each value."""
    first = found[0]
    named = " · ".join(f'<a href="#{path}"><code>{path}</code></a>' for path in paths or (first.path,))
    title = " · ".join(get_title(setting.path) for setting in found)
    knob = find_knob(first)
    ranged = draw_range(knob.bounds, first.usual, [first.value]) if isinstance(first.usual, Range) and not paths else ""
    badge = build_badge(grade_value(knob.sure, first.derived))
    reasons = [reason] if reason else list(dict.fromkeys(map(explain_setting, found)))
    body = "".join(f"<p>{format_rich(text)}</p>" for text in reasons)
    return (
        f'<article class="setting"><h4>{escape(title)}</h4><b>{escape(shown or format_value(first.value))}</b>{ranged}'
        f"{body}<p class=\"named\">{named} {badge}</p></article>"
    )


def find_knob(setting: SettingChoice) -> Knob:
    """Returns the declaration of a setting in a supervised run with LoRA, or in any option that has it."""
    group, _, name = setting.path.partition(".")
    return next(k for cls in list_options(group).values() for k in list_knobs(cls) if k.name == name)


def get_empty_words(setting: SettingChoice) -> str:
    """Returns the meaning of an empty value of the parameter."""
    knob = find_knob(setting)
    return translate_text(knob.path, "empty", knob.empty.words) if knob.empty else ""


def explain_setting(setting: SettingChoice) -> str:
    """Returns the reason of a value; the meaning of an empty value if the reason has no translation."""
    if setting.derived is not None and is_translated(setting.derived.because):
        return str(setting.derived.because)
    return get_empty_words(setting)


def _build_tables() -> str:
    """Returns the answers as three tables, for a browser without JavaScript and for people who like tables."""
    stages = [
        [escape(str(d.title)), f"<code>{escape(d.example)}</code>", f'<a href="#stage={d.stage}">stage={d.stage}</a>']
        for d in DATA
    ]
    parts = [
        f'<h3>{message("Data and stage")}</h3>',
        build_table([str(message("data")), str(message("a record")), "stage"], stages),
        f'<h3>{message("Method by machine and size, for stage=sft")}</h3>',
        _build_method_table(),
        f"<p>{message('+ means with trainer.gradient_checkpointing=true; — means that it does not fit.')}</p>",
        f"<h3>{message('Learning rate by size')}</h3>",
        tabulate_rates(("full", "lora")),
    ]
    return f'<details class="tables"><summary>{message("The same as tables")}</summary>{"".join(parts)}</details>'


def _build_method_table() -> str:
    rows = []
    for machine in MACHINES:
        cells = [escape(str(machine.title))]
        for shape in SHAPES:
            choice = choose_method("sft", shape, machine)
            cells.append(f"{choice.method}{'+' if choice.checkpointing else ''}" if choice.fits else "—")
        rows.append(cells)
    return build_table(["", *(shape.label for shape in SHAPES)], rows, "grid")


def tabulate_rates(methods: tuple[str, ...]) -> str:
    """Returns the learning rates by stage and method, a column for each size."""
    rows = []
    for data in DATA:
        for method in methods:
            found = [find_setting(data.stage, method, shape.billions, "optim.lr") for shape in SHAPES]
            rows.append([data.stage, method, *(format_value(setting.value) for setting in found)])
    return build_table(["stage", "method", *(shape.label for shape in SHAPES)], rows, "grid")
