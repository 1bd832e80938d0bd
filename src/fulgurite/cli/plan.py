"""`fulgurite plan`: reads the words, and shows what the run would be. The rules are listed without torch."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from fulgurite.cli.help import asks
from fulgurite.cli.parser import list_flags, parse
from fulgurite.errors import FulguriteError, RequestError
from fulgurite.text.console import escape_lines, to_one_line

if TYPE_CHECKING:
    from fulgurite.config.provenance import Composed


def plan_main(words: list[str]) -> int:
    """Prints the plan; returns 0, or 2 if a rule refuses the run. Raises FulguriteError if training would,
    before it begins."""
    if {"-m", "--multirun"} & set(words):
        raise RequestError("fulgurite plan checks one run: leave out -m, and give one value of each parameter.")
    if "--rules" not in words and not asks(words):
        from fulgurite.cli.typed import check_typed

        words = check_typed("plan", words, *list_flags("plan"))
    given = parse("plan", words)
    if given.rules:
        print(format_rules(given.json))
        return 0
    from pathlib import Path

    from fulgurite.config.compose import compose
    from fulgurite.run.stored_words import restore_words

    folder = Path(given.config_dir).expanduser() if given.config_dir else None
    if folder is not None and not folder.is_dir():
        raise RequestError(
            "--config-dir {folder} is not a folder; give one that has your options, such as "
            "{folder}/optim/mine.yaml.",
            folder=folder,
        )
    if given.show is not None:
        check_word(given.show)
    try:
        return _planned(compose(restore_words(given.words), folder), given.json, given.probe, given.show)
    except FulguriteError as error:
        if given.json:
            print(json.dumps({"error": to_one_line(str(error)), "status": error.exit_status}, indent=1))
        raise


def check_word(word: str) -> str:
    """`--show N`, `longest` or `FILE:LINE`, as it was given. Raises RequestError for anything else."""
    file, colon, line = word.rpartition(":")
    if word == "longest" or (word.isdecimal() and int(word) >= 1) or (file and colon and line.isdecimal()):
        return word
    raise RequestError(
        "--show {word} is not allowed: give a number of examples, longest, or FILE:LINE, such as --show 3.",
        word=word,
    )


def _planned(composed: Composed, as_json: bool, probed: bool, word: str | None) -> int:
    from fulgurite.plan.preflight import build_checked_source

    source = build_checked_source(composed)
    # these load torch, which takes seconds: after all that can be refused without it
    from fulgurite.plan.color import color_findings, shows_color
    from fulgurite.plan.show import build_list, count_more, find_shown, format_text

    if probed:  # Lightning, which takes a second to load, is needed for a probe only
        from fulgurite.train.experiment import Experiment

        experiment = Experiment(composed, source)
        plan, gathered = experiment.plan(probe=True), experiment.gathered
    else:
        from fulgurite.plan.judge import judge_run
        from fulgurite.plan.prepare import prepare_run, settle_precision

        dtypes = settle_precision(composed.run.precision, composed.run.trainer)
        gathered = prepare_run(composed, source, dtypes)
        plan = judge_run(dtypes, gathered)
    shown = find_shown(gathered, word) if word is not None else []
    tokenizer = gathered.template.tokenizer
    if as_json:
        print(json.dumps(plan.to_dict() | ({"shown": build_list(shown, tokenizer)} if shown else {}), indent=1))
    else:
        screen = escape_lines(str(plan))
        print(color_findings(screen) if shows_color() else screen)
    if shown and not as_json:
        print(f"\nEXAMPLES\n{format_text(shown, tokenizer, shows_color())}")
        if more := count_more(gathered, word or ""):
            print(more)
    sys.stdout.flush()
    return 2 if plan.refused else 0


def format_rules(as_json: bool = False) -> str:
    """Every rule, in the order of the files; for programs as a list of objects."""
    from fulgurite.language.catalogue import translate_template
    from fulgurite.plan.rules import RULES
    from fulgurite.text.layout import measure_width, wrap_paragraph

    if as_json:
        rows = [
            {
                "rule": r.id,
                "severity": str(r.severity),
                "from": r.source,
                "sentence": r.meaning,
                "may_be_allowed": r.insist,
            }
            for r in RULES.values()
        ]
        return json.dumps(rows, indent=1, ensure_ascii=False)
    lines = [f"{len(RULES)} rules; an error marked * is let through by plan.allow=[ID]", ""]
    for r in RULES.values():
        lines += [f"{r.id}  {r.severity}{'*' * r.insist}  from {r.source}"]
        lines.append(wrap_paragraph(translate_template(r.meaning), measure_width(), 4))
    return "\n".join(lines)
