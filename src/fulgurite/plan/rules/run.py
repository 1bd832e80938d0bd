"""Values outside their usual ranges; and going on with an earlier run: as the same run, or not at all.

checkpoint/resume.py refuses the same once weights are there.
"""

from __future__ import annotations

from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Range, walk_settings
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import UNUSUAL, rule
from fulgurite.rules.registry import Finding


@rule(UNUSUAL, "warning", source="each knob's own usual range and its source; `fulgurite explain KNOB` shows both")
def check_unusual(seen: PlanFacts) -> list[Finding]:
    """A value outside the usual range of its knob, of which no other rule speaks."""
    return [
        Finding(found.sentence, suggest_nearest(seen.run, found.parameter), about=found.parameter)
        for found in seen.unusual
    ]


def suggest_nearest(run: RunConfig, name: str) -> str:
    """The override that sets a knob to the nearest value in its usual range; empty for a list, and where there is no
    such value."""
    knob, value = next(((knob, value) for knob, value in walk_settings(run) if knob.path == name), (None, None))
    usual = knob.find_usual(run) if knob is not None else None
    if not isinstance(usual, Range) or not isinstance(value, int | float):
        return ""
    end = usual.high if usual.high is not None and value > usual.high else usual.low
    return f"{name}={end:g}" if end is not None and usual.has(end) else ""


@rule(
    "resume.changed",
    "error",
    source="S21: a folder with a checkpoint goes on elsewhere although rate, epochs or data changed",
)
def check_changed(seen: PlanFacts) -> Finding | None:
    """Another run than the one whose checkpoint lies there."""
    earlier = seen.earlier
    if earlier is None or not earlier.refused:
        return None
    names = ",".join(sorted({*seen.run.resume.allow, *(change.knob for change in earlier.refused)}))
    return Finding(
        f"This run differs from {earlier.folder}: {'; '.join(map(str, earlier.refused))}.", f"resume.allow=[{names}]"
    )


@rule("resume.finished", "error", source="P16: LlamaFactory #4668, #2776, #9325, #7085, #6414 (it skips training)")
def check_finished(seen: PlanFacts) -> Finding | None:
    """A run whose plan is done already."""
    earlier, run = seen.earlier, seen.run
    if earlier is None or not seen.steps or earlier.step < seen.steps:
        return None
    return Finding(
        f"{earlier.folder} finished at step {earlier.step:,} of {seen.steps:,}: there is nothing to resume; give it "
        f"more steps, or begin a "
        "new run from its weights with model=hf model.path=...",
        f"trainer.max_steps={2 * earlier.step} "
        f"resume.allow=[{','.join(sorted({*run.resume.allow, 'trainer.max_steps'}))}]",
    )


@rule("resume.exactness", "error", source="P16: LlamaFactory #512 (loss higher after a reload)")
def check_exactness(seen: PlanFacts) -> Finding | None:
    """A checkpoint without a part that makes it the same run."""
    earlier = seen.earlier
    if earlier is None or not earlier.missing:
        return None
    return Finding(
        f"The checkpoint at step {earlier.step:,} in {earlier.folder} has no {' and no '.join(earlier.missing)}: this "
        f"would not be the "
        "same run; begin a new one from its weights with model=hf model.path=..."
    )
