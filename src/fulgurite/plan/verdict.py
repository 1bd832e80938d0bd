"""Checks plan.allow against the rules, and lists what `train` prints of their findings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fulgurite.errors import RequestError
from fulgurite.files.atomic import write_output
from fulgurite.language.message import UserMessage, message
from fulgurite.monitor.rules import RULES as MONITORING
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import REGISTRY, RULES
from fulgurite.rules.registry import Severity


def refuse_unknown(allow: Sequence[str], ignore: Sequence[str]) -> None:
    """Raises ConfigError if plan.allow or monitor.ignore names no rule."""
    REGISTRY.refuse_unknown(allow, "plan.allow", message("`fulgurite plan --rules` lists them."))
    known = ", ".join(MONITORING.rules)
    MONITORING.refuse_unknown(ignore, "monitor.ignore", message("There are: {rules}.", rules=known))


def format_trouble(trouble: Trouble) -> UserMessage:
    """Returns a finding as one line: the sentence, what to do, and how to insist if one may."""
    known, facts = RULES.get(trouble.rule), {"rule": trouble.rule, "sentence": trouble.sentence}
    line = message("[{rule}] {sentence}", **facts)
    if trouble.remedy:
        line = message("[{rule}] {sentence} Do: {remedy}", **facts, remedy=trouble.remedy)
    if trouble.refuses and known is not None and known.insist:
        return message("{line} To insist: plan.allow=[{rule}]", line=line, rule=trouble.rule)
    return line


def list_warnings(troubles: Sequence[Trouble]) -> list[UserMessage]:
    """Returns the lines that a run prints once before it begins. Raises RequestError, a line each, if a rule refuses
    it."""
    refusing = [format_trouble(trouble) for trouble in troubles if trouble.refuses]
    if refusing:
        raise RequestError("{lines}", lines="\nerror: ".join(map(str, refusing)))
    return [
        message("allowed: {line}", line=format_trouble(t)) if t.severity is Severity.error
        else message("warning: {line}", line=format_trouble(t))
        for t in troubles if t.severity is Severity.error or (t.severity is Severity.warning and not t.allowed)
    ]


def write(troubles: Sequence[Trouble], path: Path) -> None:
    """Writes troubles.json: every finding, notes too."""
    write_output(path, json.dumps([t.to_json() for t in troubles], indent=1, ensure_ascii=False) + "\n")
