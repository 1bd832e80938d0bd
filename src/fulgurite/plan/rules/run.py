"""Rules about values outside their usual ranges, and about going on with an earlier run: as the same run, or not at
all.

checkpoint/resume.py refuses the same once the weights are loaded.
"""

from __future__ import annotations

from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Range, walk_settings
from fulgurite.language.message import message
from fulgurite.plan.context import PlanFacts
from fulgurite.plan.rules import UNUSUAL, rule
from fulgurite.rules.registry import Finding


@rule(UNUSUAL, "warning", source="each knob's own usual range and its source; `fulgurite explain KNOB` shows both")
def check_unusual(seen: PlanFacts) -> list[Finding]:
    """A value outside the usual range of its parameter, about which no other rule has a finding."""
    return [
        Finding(found.sentence, suggest_nearest(seen.run, found.parameter), about=found.parameter)
        for found in seen.unusual
    ]


def suggest_nearest(run: RunConfig, name: str) -> str:
    """Returns the override that sets a parameter to the nearest value in its usual range; empty for a list, and if
    there is no such value."""
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
    """Another run than the one whose checkpoint is in the folder."""
    earlier = seen.earlier
    if earlier is None or not earlier.refused:
        return None
    names = ",".join(sorted({*seen.run.resume.allow, *(change.knob for change in earlier.refused)}))
    return Finding(
        message(
            "This run differs from {folder}: {changes}.",
            folder=earlier.folder, changes="; ".join(map(str, earlier.refused)),
        ),
        f"resume.allow=[{names}]",
    )


@rule("resume.finished", "error", source="P16: LlamaFactory #4668, #2776, #9325, #7085, #6414 (it skips training)")
def check_finished(seen: PlanFacts) -> Finding | None:
    """A run that has made all its steps already."""
    earlier, run = seen.earlier, seen.run
    if earlier is None or not seen.steps or earlier.step < seen.steps:
        return None
    return Finding(
        message(
            "{folder} finished at step {step:,} of {steps:,}: there is nothing to resume. Give it more steps, or "
            "start a new run from its weights with model=hf model.path={folder}.",
            folder=earlier.folder, step=earlier.step, steps=seen.steps,
        ),
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
        message(
            "The checkpoint at step {step:,} in {folder} lacks {missing}: this would not be the same run. Start a new "
            "one from its weights with model=hf model.path={folder}.",
            step=earlier.step, folder=earlier.folder, missing=", ".join(map(str, earlier.missing)),
        )
    )
