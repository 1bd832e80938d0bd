"""`fulgurite explain`: reads the words, picks the pages, prints them."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fulgurite.cli.parser import parse
from fulgurite.config.check_value import check
from fulgurite.config.renamed import refuse_renamed
from fulgurite.config.run import load_options
from fulgurite.config.schema import Knob, list_knobs, list_options, strip_none
from fulgurite.errors import ConfigError, RequestError
from fulgurite.explain.choices import read_default_options
from fulgurite.explain.knob_index import COMMANDS, build_entries, list_every_knob
from fulgurite.explain.pages import build_group_page, build_knob_page, build_option_page, build_overview
from fulgurite.explain.search import Question, describe_foreign, parse_question, search
from fulgurite.explain.value import judge_value, split_context
from fulgurite.language.catalogue import translate
from fulgurite.language.current import detect_language, use_language
from fulgurite.rules.registry import Severity
from fulgurite.text.layout import measure_width, wrap

if TYPE_CHECKING:
    from fulgurite.scheduler.config import Scheduler


FindTroubles = Callable[[list[str]], Sequence[Any]]
"""Returns the troubles that the rules of `plan` find in the words of a run."""


def explain_main(words: list[str], find: FindTroubles | None = None) -> int:
    """Prints what is known of the words; returns 0. Raises ConfigError or RequestError, for the caller to report."""
    given = parse("explain", words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets question marks, not a traceback
    # a program gets English unless it asks, whatever the locale of whoever starts it
    with use_language(given.lang or ("en" if given.json else detect_language(os.environ))):
        print(_answer(given, find))
    return 0


def _answer(given: argparse.Namespace, find: FindTroubles | None) -> str:
    load_options()  # the words are compared with the options of every group
    if given.html:
        from fulgurite.explain.html import build_page

        if given.words or given.search is not None or given.json or given.plot:
            raise RequestError(
                "--html prints the whole guide; leave out all other words except --lang."
            )
        return build_page()
    if given.plot:
        return _plots(given.words)
    if given.json:
        return json.dumps(_entries(given.words), indent=2, ensure_ascii=False)
    if given.search is not None:
        return search(given.search)
    words, chosen = split_context(given.words)
    return "\n\n".join(_page(word, chosen, find) for word in words) if words else build_overview()


def _page(word: str, chosen: Mapping[str, str], find: FindTroubles | None) -> str:
    what = parse_question(word)
    value = word.partition("=")[2]
    pages = [describe_foreign(what.foreign)] if what.foreign else []
    if value and what.knobs:
        # first, because it refuses values that are not legal
        usual = wrap(str(judge_value(what.knobs, value, chosen)), measure_width(), "", "")
        found = _list_findings(what.knobs, value, chosen, find) if find is not None else []
        # a rule has the usual range in its sentence
        pages += found or [usual]
    pages += [build_knob_page(what.knobs)] if what.knobs else []
    pages += [build_option_page(group, name) for group, name in what.options]
    pages += [build_group_page(group) for group in what.groups]
    return _renamed(what) + "\n\n".join(pages)


def _list_findings(knobs: Sequence[Knob], value: str, chosen: Mapping[str, str], find: FindTroubles) -> list[str]:
    """Returns what `fulgurite plan` finds about the value in a run with the chosen options, with its remedies."""
    group = knobs[0].group.partition(".")[0]
    if group in COMMANDS:
        return []
    default = chosen.get(group, read_default_options().get(group, ""))
    owner = [] if any(knob.option in (default, "") for knob in knobs) else [f"{group}={knobs[0].option}"]
    words = [*owner, *(f"{name}={given}" for name, given in chosen.items()), f"{knobs[0].path}={value}"]
    return [
        wrap(f"{trouble.sentence}" + (f" → {trouble.remedy}" if trouble.remedy else ""), measure_width(), "", "")
        for trouble in find(words) if trouble.severity is not Severity.note
    ]


def _renamed(what: Question) -> str:
    """A line about the earlier name that was asked for, above the page."""
    if not what.earlier:
        return ""
    return translate("{old} is now {new}.").format(old=what.earlier, new=what.knobs[0].path) + "\n\n"


def _entries(words: list[str]) -> list[dict[str, Any]]:
    if not words:
        return build_entries()
    return [entry for word in words for entry in build_entries(_knobs(word))]


def _knobs(word: str) -> list[Knob]:
    """Returns the parameters that a word names: those of a group or of an option too."""
    what = parse_question(word)
    if what.knobs:
        return list(what.knobs)
    if what.groups:
        return [k for k in list_every_knob() if k.group.partition(".")[0] in what.groups]
    return [k for k in list_every_knob() if (k.group.partition(".")[0], k.option) in what.options]


def _plots(words: list[str]) -> str:
    """Returns the curve of the schedule that the words name; of each, smaller, if they name the group alone."""
    if words and words[0] == "stage=dpo":
        return _losses(words[1:])
    from fulgurite.scheduler.plot import plot

    if not words or words[0].partition("=")[0] != "scheduler":
        raise ConfigError(
            "--plot draws schedules and preference losses: write `fulgurite explain scheduler=cosine --plot` or "
            "stage=dpo."
        )
    named = cast("dict[str, type[Scheduler]]", list_options("scheduler"))
    values = dict(word.partition("=")[::2] for word in words[1:])
    total = _given("trainer", "max_steps", values.pop("trainer.max_steps", "1000"))
    lr = _given("optim", "lr", values.pop("optim.lr", "1e-4"))
    if words[0] == "scheduler":
        return "\n\n".join(plot(cls(), total, lr, height=7) for cls in named.values())
    [(_, name)] = parse_question(words[0]).options
    own = {k.path: k for k in list_knobs(named[name])}
    for path in values:
        if path not in own:
            raise ConfigError(
                "scheduler={name} has no parameter {path}; it has {names}.", name=name, path=path,
                names=", ".join(own) or "-",
            )
    given = {own[path].name: _given("scheduler", own[path].name, text, name) for path, text in values.items()}
    return plot(named[name](**given), total, lr)


def _losses(words: list[str]) -> str:
    """Returns the curve of the preference loss that the words name; of each, smaller, if they name none."""
    from fulgurite.explain.curves import plot_loss
    from fulgurite.stage.preference_table import get_row, list_names, list_reading

    refuse_renamed(words)
    values = dict(word.partition("=")[::2] for word in words)
    named = values.pop("stage.loss", None)
    if named is not None and named not in list_names():
        raise ConfigError(
            "stage.loss={named} is no loss of stage=dpo; there are {names}.",
            named=named, names=", ".join(list_names()),
        )
    losses = [named] if named else list_names()
    weight = get_row(named).weight if named else "beta"
    reads = {"label_smoothing": "smoothing", "gamma": "gamma_share", "tau": "tau"}
    given = {}
    for path, text in values.items():
        knob = path.removeprefix("stage.")
        if knob not in (weight, *reads) or named is None or (knob in reads and named not in list_reading(reads[knob])):
            raise ConfigError(
                "{path} is not read here; give stage.loss=... first, then stage.{weight}=... or a parameter that "
                "the loss reads.",
                path=path, weight=weight,
            )
        given["beta" if knob == weight else knob] = float(_given("stage", knob, text, "dpo"))
        if get_row(named).log_smoothing and given.get("label_smoothing") == 0:
            raise ConfigError(
                "stage.label_smoothing=0 is not possible with stage.loss={named}, which takes its logarithm; "
                "take 0.001.",
                named=named,
            )
    return "\n\n".join(plot_loss(loss, given, height=11 if named else 6) for loss in losses)


def _given(group: str, knob: str, text: str, option: str = "") -> Any:
    """The value that `text` gives a number knob, within its bounds. Raises ConfigError."""
    found = next(k for k in list_every_knob() if k.path == f"{group}.{knob}" and option in ("", k.option))
    try:
        value = strip_none(found.type)(text)
    except ValueError as error:
        if strip_none(found.type) is int:
            raise ConfigError("{path}={text} is not a whole number.", path=found.path, text=text) from error
        raise ConfigError("{path}={text} is not a number.", path=found.path, text=text) from error
    check(found, value)
    return value
