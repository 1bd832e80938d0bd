"""Which weights train. A pattern that matches nothing, and pairs that cannot be, are refused where they are declared."""

from __future__ import annotations

import math
from collections import Counter

from fulgurite.plan.facts import Seen
from fulgurite.plan.rules import rule
from fulgurite.plan.trouble import Say


@rule("freeze.pattern", "note", source="P22: LlamaFactory #1514, #3694, #3072, #5152, #8834, #6731 (which layers are trained?)")
def trained(seen: Seen) -> Say | None:
    """What trains, where the method chooses parts."""
    if not seen.run.method.tells or not seen.model.trained:
        return None
    groups: Counter[str] = Counter()
    for tensor in seen.model.tensors:
        groups[tensor.kind] += math.prod(tensor.shape) if tensor.trained else 0
    parts = ", ".join(f"{kind} {count:,}" for kind, count in groups.most_common() if count)
    some, whole = seen.model.trained, seen.model.parameters
    return Say(f"Trained: {some:,} of {whole:,} parameters ({seen.model.share:.1%})" + (f": {parts}." if parts else "."))
