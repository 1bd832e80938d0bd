"""What DeepSpeed, FSDP and Lightning call a way of dividing a model, in words of the command line.

torch's FSDP2 divides the same parts as DeepSpeed's ZeRO: stage 3 all of them, stages 1 and 2 not the weights of a step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STAGES = {"0": "strategy=ddp", "1": "strategy=fsdp strategy.reshard=false", "2": "strategy=fsdp strategy.reshard=false",
          "3": "strategy=fsdp"}
"""The words for each stage of ZeRO."""
STAGE = re.compile(r"(?:z|zero|stage)[ _-]?([0-3])(?!\d)|^([0-3])$")
"""The stage in a name such as `ds_z3_offload_config.json`, `deepspeed_stage_2` or `2`."""
PARTS = {
    "full_shard": "strategy=fsdp", "shard_grad_op": "strategy=fsdp strategy.reshard=false", "no_shard": "strategy=ddp",
    "hybrid_shard": "strategy=fsdp strategy.hybrid=...",
    "hybrid_shard_zero2": "strategy=fsdp strategy.hybrid=... strategy.reshard=false",
}
"""The words of Hugging Face's `fsdp` and of FSDP's sharding strategies."""
OFFLOAD = "strategy.offload=true"
LARGEST = 1_000_000
"""Bytes of the largest file that is read as a config of DeepSpeed."""
NAMES = ("deepspeed", "zero", "fsdp")


def find_strategy(value: str) -> str | None:
    """Returns the words for a config of DeepSpeed (a file, or JSON text), a stage of ZeRO, or a word of FSDP.

    None if the value is none of them. A file that is missing is judged by its name.
    """
    lower = value.strip().casefold()
    if (config := _load(value)) is not None:
        return translate_config(config)
    parts = set(re.split(r"[\s,\[\]'\"]+", lower))
    known = [words for part, words in PARTS.items() if part in parts]
    stage = STAGE.search(lower)
    # A word of FSDP decides before a stage of ZeRO, and the mere name of either comes last.
    if known:
        words = known[0]
    elif stage is not None:
        words = STAGES[stage[1] or stage[2]]
    elif lower == "true" or any(name in lower for name in NAMES):
        words = "strategy=fsdp"
    else:
        return None
    return f"{words} {OFFLOAD}" if "offload" in lower else words


def translate_config(config: Mapping[str, Any]) -> str:
    """Returns the words for a config of DeepSpeed."""
    zero = config.get("zero_optimization")
    zero = zero if isinstance(zero, Mapping) else {}
    words = STAGES.get(str(zero.get("stage", 0)), "strategy=fsdp")
    devices = [
        part.get("device", "none") for name in ("offload_optimizer", "offload_param")
        if isinstance(part := zero.get(name), Mapping)
    ]
    # cpu_offload is DeepSpeed's older key for offload_optimizer.
    moves = any(device != "none" for device in devices) or zero.get("cpu_offload") is True
    return f"{words} {OFFLOAD}" if moves else words


def _load(value: str) -> Mapping[str, Any] | None:
    """The config in a file or a text; None if it is neither."""
    text = value.strip()
    if not text.startswith("{"):
        file = Path(text).expanduser()
        if file.suffix != ".json" or not file.is_file() or file.stat().st_size > LARGEST:
            return None
        text = file.read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, Mapping) else None
