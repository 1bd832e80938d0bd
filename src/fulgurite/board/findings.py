"""The findings about a run, before its start and during it, and what a run that failed has as its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fulgurite.board.samples import read_own_rows
from fulgurite.explain.diagnosis import BEFORE, DURING, Symptom
from fulgurite.files.json import read_json
from fulgurite.language.stored import translate_stored

ENDED_BADLY = ("failed", "diverged", "died")
"""The states of a run that has a diagnosis."""
SERIOUS = ("stop", "error", "warning")
"""Severities in the order in which a finding explains a failure."""
BY_WORDS = (
    (re.compile(r"out of memory|not enough memory", re.IGNORECASE), "memory.train"),
    (re.compile(r"not finite|non-finite|\bnan\b|\binf\b", re.IGNORECASE), "val-not-finite"),
)
"""The rule whose symptom an error without a finding has."""


def read_findings(folder: Path) -> list[dict[str, Any]]:
    """Returns the findings in the language in use, those before the first step at step 0.

    Files hold English; the sentence is translated if the file has it as data too.
    """
    before = [_describe(row, 0, row.get("message"), None) for row in _read_troubles(folder / "troubles.json")]
    during = []
    for row in read_own_rows(folder / "watch.jsonl"):
        data = row.get("messages")
        parts = data if isinstance(data, Mapping) else {}
        during.append(_describe(row, row["step"], parts.get("sentence"), parts.get("remedy")))
    return before + sorted(during, key=lambda finding: finding["step"])


def _read_troubles(path: Path) -> list[dict[str, Any]]:
    try:
        found = [] if path.is_symlink() else read_json(path)
    except (OSError, ValueError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _describe(row: dict[str, Any], step: int, sentence: Any, remedy: Any) -> dict[str, Any]:
    return {
        "step": step, "severity": str(row.get("severity", "note")), "rule": str(row.get("rule", "")),
        "sentence": translate_stored(sentence, str(row.get("sentence", ""))),
        "remedy": translate_stored(remedy, str(row.get("remedy", ""))), "about": str(row.get("about", "")),
        "allowed": row.get("allowed") is True,
    }


def find_symptom(findings: Iterable[Mapping[str, Any]], why: str) -> dict[str, str] | None:
    """Returns what is usually meant by the most serious finding of a run that ended badly, and what to change.

    `why` decides if no finding has a symptom.
    """
    rows = [row for row in findings if row["severity"] in SERIOUS]
    rows.sort(key=lambda row: (SERIOUS.index(row["severity"]), -row["step"]))
    rules = [row["rule"] for row in rows if row["step"] > 0 or row["severity"] != "warning"]
    rules += [rule for pattern, rule in BY_WORDS if pattern.search(why)]
    for rule in rules:
        for symptom in (*DURING, *BEFORE):
            if rule in symptom.rules:
                return _format_symptom(symptom)
    return None


def _format_symptom(symptom: Symptom) -> dict[str, str]:
    return {"seen": str(symptom.seen), "means": str(symptom.means), "change": str(symptom.change)}
