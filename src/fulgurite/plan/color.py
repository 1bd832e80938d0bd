"""Colors the findings of a plan for a terminal."""

from __future__ import annotations

import os
import re
import sys

from fulgurite.rules.registry import Severity, describe_severity

COLORS = {Severity.error: 31, Severity.warning: 33, Severity.note: 2}
"""ANSI codes of the severities: red, yellow, dim."""
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def shows_color() -> bool:
    """Whether stdout is a terminal that shows colors, and NO_COLOR (https://no-color.org) is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def color_findings(screen: str) -> str:
    """Makes the severities and the remedies of a plan's screen bold, errors red and warnings yellow."""
    for severity, color in COLORS.items():
        label = re.escape(str(describe_severity(severity)))
        screen = re.sub(rf"(?m)^(  {label})(?= )", f"\x1b[1;{color}m\\g<1>{PLAIN}", screen)
    return re.sub(r"(?m)^( +→ )(.*)$", f"\\g<1>{BOLD}\\g<2>{PLAIN}", screen)
