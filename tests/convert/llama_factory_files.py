"""The settings of the examples that LLaMA-Factory 0.9.5 ships (its source distribution, `examples/`), by file name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STORED = json.loads(Path(__file__).with_name("llama_factory_examples.json").read_text(encoding="utf-8"))


def load_examples() -> dict[str, dict[str, Any]]:
    """Returns the settings of each file: those that most of them share, and its own."""
    found = {}
    for name, parts in STORED["files"].items():
        shared = {} if parts["without"] == "all" else {
            key: value for key, value in STORED["shared"].items() if key not in parts["without"]
        }
        found[name] = shared | parts["own"]
    return found
