"""plan.allow held against the rules, and what `train` does about what they say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fulgurite.errors import RequestError
from fulgurite.files.atomic import write_output
from fulgurite.monitor.rules import RULES as MONITORING
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import REGISTRY, RULES
from fulgurite.rules.registry import Severity


def refuse_unknown(allow: Sequence[str], ignore: Sequence[str]) -> None:
    """Raises ConfigError if plan.allow or monitor.ignore names no rule."""
    REGISTRY.refuse_unknown(allow, "plan.allow", "`fulgurite plan --rules` lists them.")
    MONITORING.refuse_unknown(ignore, "monitor.ignore", f"There are: {', '.join(MONITORING.rules)}.")


def format_trouble(trouble: Trouble) -> str:
    """A trouble as one line: the sentence, what to do, and how to insist where one may."""
    remedy = f" Do: {trouble.remedy}" if trouble.remedy else ""
    known = RULES.get(trouble.rule)
    insist = (
        f" To insist: plan.allow=[{trouble.rule}]" if trouble.refuses and known is not None and known.insist else ""
    )
    return f"[{trouble.rule}] {trouble.sentence}{remedy}{insist}"


def list_warnings(troubles: Sequence[Trouble]) -> list[str]:
    """The lines that a run prints once before it begins. Raises RequestError, a line each, where a rule refuses it."""
    refusing = [format_trouble(trouble) for trouble in troubles if trouble.refuses]
    if refusing:
        raise RequestError("\nerror: ".join(refusing))
    return [
        f"allowed: {format_trouble(t)}" if t.severity is Severity.error else f"warning: {format_trouble(t)}"
        for t in troubles if t.severity is Severity.error or (t.severity is Severity.warning and not t.allowed)
    ]


def write(troubles: Sequence[Trouble], path: Path) -> None:
    """Write troubles.json: everything that the rules said, notes too."""
    write_output(path, json.dumps([t.to_json() for t in troubles], indent=1, ensure_ascii=False) + "\n")
