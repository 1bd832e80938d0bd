"""The guide's chapters in the order of the work: choose, train, diagnose, change; then what is often misread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from fulgurite.config.schema import list_options
from fulgurite.explain.decision_table import measure_gigabytes
from fulgurite.explain.diagnosis import BEFORE, DURING, Symptom
from fulgurite.explain.knob_index import list_every_knob, merge_knobs
from fulgurite.explain.model_shapes import SHAPES
from fulgurite.explain.page_parts import build_table, format_rich, link_knob
from fulgurite.explain.pages import get_costs, get_doc, get_knob_text, get_misread, list_all_groups
from fulgurite.explain.titles import TITLES
from fulgurite.language import UserMessage, message
from fulgurite.language.catalogue import translate

STAGES = ("pt", "sft", "dpo", "kto", "grpo", "rm", "ppo")
METHODS = ("lora", "qlora", "full", "freeze", "layerwise")
"""The methods of the chapter; the reference has all."""
MATTER = (
    "optim.lr", "trainer.epochs", "trainer.global_batch_size", "method.rank", "data.max_length", "stage.beta",
    "scheduler.warmup_ratio", "trainer.max_grad_norm", "method.dropout", "optim.weight_decay",
)
"""The parameters of the chapter on changing, the most important first."""
PLACE = re.compile(r"<code>([a-z_]+(?:\.[a-z_]+)+|(?:stage|method|precision|optim|privacy)=[a-z_0-9]+)</code>")


def build_chapters() -> str:
    """Returns the chapters."""
    return _build_choose() + _build_train() + _build_diagnose() + _build_change() + build_misreadings()


def link_code(html: str) -> str:
    """Returns HTML in which names of parameters and options are links into the reference."""
    known = {*TITLES, *(f"{g}={n}" for g in list_all_groups() for n in list_options(g))}

    def link(found: re.Match[str]) -> str:
        return f'<a href="#{found[1]}">{found[0]}</a>' if found[1] in known else found[0]

    return PLACE.sub(link, html)


def _format(text: UserMessage | str) -> str:
    return link_code(format_rich(str(text)))


def _open_section(anchor: str, title: UserMessage, lead: UserMessage) -> str:
    return f'<section id="{anchor}"><h2>{title}</h2><p class="lead">{_format(lead)}</p>'


def _build_choose() -> str:
    """Returns the chapter on stages, methods and memory."""
    lead = message("The stage follows from the data, the method from the memory. Most people need SFT with LoRA.")
    return (
        _open_section("choose", message("1 · Choose"), lead)
        + f"<h3>{message('The order of the stages')}</h3>{_draw_order()}{_list_options('stage', STAGES)}"
        + f"<h3>{message('The method')}</h3>{_list_options('method', METHODS)}"
        + f"<h3>{message('Memory in GB, by method and size')}</h3>{_tabulate_memory()}"
        + f"<p>{message('stage=sft on a GPU, one example of 1,024 tokens at a time, with gradient checkpointing.')}</p>"
        + "</section>\n"
    )


def _draw_order() -> str:
    """Returns the stages as boxes with arrows."""
    steps = (
        (("pt", message("raw text, if there is much of it")),),
        (("sft", message("the right first step")),),
        (
            ("dpo", message("with pairs")), ("kto", message("with marks")), ("grpo", message("with a test")),
            ("rm → ppo", message("the last resort")),
        ),
    )
    columns = []
    for step in steps:
        boxes = "".join(f"<li><b>{escape(name)}</b> <small>{words}</small></li>" for name, words in step)
        columns.append(f"<ul>{boxes}</ul>")
    return f'<div class="order">{"<i>→</i>".join(columns)}</div>'


def _list_options(group: str, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        cls = list_options(group)[name]
        cost = f'<p class="soft">{escape(translate("Costs:"))} {format_rich(get_costs(cls))}</p>' if cls.costs else ""
        rows.append(
            f'<div class="option"><h4><a href="#{group}={name}">{escape(name)}</a></h4>'
            f"<div><p>{_format(get_doc(cls))}</p>{cost}</div></div>"
        )
    return f'<div class="options">{"".join(rows)}</div>'


def _tabulate_memory() -> str:
    rows = []
    for method in ("full", "lora", "qlora"):
        needs = (measure_gigabytes("sft", method, shape, "cuda", True) for shape in SHAPES)
        rows.append([f'<a href="#method={method}">{method}</a>', *(f"{need:.0f}" for need in needs)])
    return build_table(["method", *(shape.label for shape in SHAPES)], rows, "grid")


def _build_train() -> str:
    """Returns the chapter on a first run."""
    steps = (
        message("`fulgurite plan …` shows every value with its reason, the memory and the time, and loads nothing."),
        message("`fulgurite train … trainer.max_steps=20` shows that everything works."),
        message(
            "`fulgurite train …` answers the same prompts before, during and after training: read these answers first, "
            "the loss second."
        ),
        message("`fulgurite chat run=FOLDER` answers you; `fulgurite export run=FOLDER out=FOLDER` saves a model."),
        message(
            "Then change one parameter at a time. A difference of 1 % is nothing until it holds with three values of "
            "`seed`."
        ),
    )
    read = (
        (message("loss"), message("falls quickly, then slowly; in DPO and in a reward model it begins at 0.693")),
        (message("validation loss"), message("falls too; the best checkpoint is where it is lowest")),
        (message("learning rate"), message("climbs during the warmup, then follows `scheduler`")),
        (message("gradient norm"), message("0.1 to 10 in SFT; single peaks are what clipping is for")),
    )
    items = "".join(f"<li>{_format(step)}</li>" for step in steps)
    rows = [[escape(str(name)), _format(words)] for name, words in read]
    lead = message("In the first run leave every parameter empty: it is then derived, and the run prints why.")
    return (
        _open_section("train", message("2 · Train"), lead)
        + f'<ol class="steps">{items}</ol><h3>{message("What to read while it runs")}</h3>'
        + build_table([str(message("number")), str(message("healthy"))], rows) + "</section>\n"
    )


def _build_diagnose() -> str:
    """Returns the chapter on symptoms."""
    lead = message("Find what you see. The program looks for the same signs, and names the rule in brackets.")
    return (
        _open_section("diagnose", message("3 · Diagnose"), lead)
        + f"<h3>{message('While it trains')}</h3>{_list_symptoms(DURING)}"
        + f"<h3>{message('Before it starts')}</h3>{_list_symptoms(BEFORE)}</section>\n"
    )


def _list_symptoms(symptoms: Sequence[Symptom]) -> str:
    rows = []
    for symptom in symptoms:
        rules = ", ".join(symptom.rules)
        rows.append(
            f'<details class="hit symptom"><summary>{format_rich(str(symptom.seen))}</summary>'
            f"<p>{_format(symptom.means)}</p><p><b>{message('Change')}</b> {_format(symptom.change)} "
            f"<small>[{escape(rules)}]</small></p></details>"
        )
    return f'<div class="symptoms">{"".join(rows)}</div>'


def _build_change() -> str:
    """Returns the chapter on the parameters that matter."""
    lead = message("Ten parameters decide nearly everything; the first three most of it. Change one at a time.")
    declared = {s.knob.path: s.knob for s in reversed(merge_knobs(list_every_knob()))}
    rows = []
    for path in MATTER:
        knob = declared[path]
        rows.append(
            f'<div class="option"><h4>{link_knob(path)}</h4><div>'
            f"<p><b>↑</b> {_format(get_knob_text(knob, 'raise_when'))}</p>"
            f"<p><b>↓</b> {_format(get_knob_text(knob, 'lower_when'))}</p></div></div>"
        )
    legend = message("↑ is when to raise it, ↓ when to lower it.")
    return (
        _open_section("change", message("4 · Change"), lead)
        + f'<p>{legend}</p><div class="options">{"".join(rows)}</div></section>\n'
    )


def build_misreadings() -> str:
    """Returns what is often misread, gathered from the options and the parameters."""
    rows = [
        (f"{g}={n}", get_misread(cls)) for g in list_all_groups() for n, cls in list_options(g).items() if cls.misread
    ]
    rows += [
        (s.knob.path, get_knob_text(s.knob, "misread")) for s in merge_knobs(list_every_knob()) if s.knob.misread
    ]
    items = "".join(f'<li><a href="#{name}">{escape(name)}</a> {_format(text)}</li>' for name, text in rows)
    title, count = translate("common mistakes"), f"<small>{len(rows)}</small>"
    return (
        f'<section id="mistakes"><details class="group"><summary><h3>{escape(title[:1].upper() + title[1:])}</h3>'
        f'{count}<p>{message("DPO is not privacy, LoRA freezes everything, and the number of rows sets no rate.")}</p>'
        f'</summary><ul class="misread">{items}</ul></details></section>\n'
    )
