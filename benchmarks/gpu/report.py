"""The results as a JSON file and as tables in markdown."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

SHARES = ("MFU", "error")
BYTES = ("memory", "estimate", "peak", "tensors")


def format_number(name: str, value: Any) -> str:
    """Returns a number with its unit, as a table shows it."""
    if isinstance(value, str):
        return value
    if name in SHARES:
        return f"{value:+.1%}" if name == "error" else f"{value:.1%}"
    if name.endswith(" rate"):
        return f"{value / 1e12:,.1f} TFLOP/s"
    if name in BYTES:
        return f"{value / 1e6:,.0f} MB"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def format_tables(results: list[dict[str, Any]]) -> str:
    """Returns one table a section: a column for each number, and the state of the rows that are not ok."""
    tables = []
    for section in dict.fromkeys(result["section"] for result in results):
        rows = [result for result in results if result["section"] == section]
        columns = list(dict.fromkeys(name for row in rows for name in row.get("numbers", {})))
        lines = [f"| {section} | {' | '.join([*columns, 's', 'state'])} |", "|---" * (len(columns) + 3) + "|"]
        for row in rows:
            numbers = row.get("numbers", {})
            cells = [format_number(name, numbers[name]) if name in numbers else "" for name in columns]
            state = f"{row['state']}: {row['error']}" if "error" in row else row["state"]
            state = " ".join(state.split()).replace("|", "/")[:300]
            lines.append(f"| {row['name']} | {' | '.join([*cells, str(row.get('seconds', '')), state])} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def summarise(results: list[dict[str, Any]]) -> str:
    """Returns how many rows are in each state, and names those that were not reached."""
    counts = Counter(result["state"] for result in results)
    line = ", ".join(f"{count} {state}" for state, count in counts.items())
    late = [f"{result['section']}: {result['name']}" for result in results if result["state"] == "not reached"]
    return line + ("\nNot reached: " + "; ".join(late) if late else "")


def write_json(path: Path, facts: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Writes facts and results; after each row, so that an interrupted run leaves what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "rows": results}, indent=1) + "\n")
