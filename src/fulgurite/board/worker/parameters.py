"""Every parameter of a run as a row for the page: value, reason, what is legal and usual, and what the rules find."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fulgurite.board.draft import Draft
from fulgurite.board.typed_values import format_typed, get_kind
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.facts import Facts
from fulgurite.config.provenance import to_plain
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Knob, Range, Usual, walk_settings
from fulgurite.errors import FulguriteError
from fulgurite.explain.page_parts import build_scale, grade_value
from fulgurite.explain.pages import get_knob_text
from fulgurite.explain.titles import get_title
from fulgurite.language.catalogue import translate_text
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import RULES, UNUSUAL
from fulgurite.rules.registry import Severity

RESULT, COST, LEAVE = "result", "cost", "leave"
GROUPS = (RESULT, COST, LEAVE)
OF_COST = re.compile(
    r"memory|device is idle|disk|\btime\b|takes? too long|sample answers|cores|GPUs|sockets|machines|slow", re.I
)
"""Words of a reason to change a parameter that is about its cost."""
ELSEWHERE: dict[str, str] = {
    # their memory is a side effect of what they choose
    **dict.fromkeys(
        ("method.trainable", "method.targets", "method.variant", "method.modules_to_save", "precision.rounding"),
        RESULT,
    ),
    # they have no reason to change them that is about memory or time, and are about nothing else
    **dict.fromkeys(
        ("trainer.accelerator", "trainer.num_workers", "trainer.benchmark", "trainer.keep_checkpoints",
         "trainer.eval_every", "method.quant_type", "sweep.at_once", "stage.prompts"),
        COST,
    ),
    # names, places, logs and checks; settings that one changes on the day one knows why
    **dict.fromkeys(
        ("name", "run_dir", "plugins", "plan.allow", "monitor.ignore", "resume.run", "resume.allow",
         "trainer.log_every", "trainer.profiler", "trainer.detect_anomaly", "trainer.deterministic",
         "trainer.enable_model_summary", "trainer.clip_algorithm", "callback.lr_monitor.log_momentum",
         "callback.lr_monitor.log_weight_decay", "callback.device_stats.cpu_stats", "logger.wandb.project",
         "logger.wandb.entity", "logger.wandb.wait", "optim.betas", "optim.weight_decay_on", "method.init",
         "method.loraplus_lr_ratio", "method.rank_pattern", "method.alpha_pattern", "method.adapter_mode",
         "stage.router_aux_loss_coef", "data.template_arguments", "data.enable_thinking", "data.special_tokens",
         "data.shuffle", "model.add_tokens", "model.revision", "privacy.accountant", "sweep.sampler", "sweep.pruner",
         "sweep.metric", "sweep.goal", "sweep.keep", "sweep.storage", "sweep.study", "sweep.trial"),
        LEAVE,
    ),
}
"""Parameters whose declaration alone leads to the wrong group."""
FIRST = (
    "model.path", "data.path", "optim.lr", "trainer.epochs", "trainer.global_batch_size", "method.rank", "method.alpha",
    "stage.loss", "stage.beta", "stage.reward", "data.max_length", "data.mask", "data.template",
    "scheduler.warmup_ratio", "method.targets", "trainer.micro_batch_size", "trainer.gradient_checkpointing",
)
"""The parameters that most runs are about; they come first in their group."""
HIDDEN = ("resume.run", "resume.allow", "sweep.trial", "sweep.study")
"""Parameters that the page sets in other ways, or not at all."""
ONLY_WITH = {"sweep.": "sweep", "lr_finder.": "find"}
"""Parameters that mean something only beside a preset of this group."""
CODE = ("model.trust_remote_code", "model.revision", "plugins", "launcher.setup", "launcher.options")
"""Parameters that the page may set only under --allow-code."""
ORIGINS = {Kind.command_line: "yours", Kind.preset: "preset", Kind.default: "default"}


@dataclass(frozen=True, slots=True)
class RunState:
    """What the rows of a run are made of."""

    run: RunConfig
    decisions: Mapping[str, Decision]
    facts: Facts
    findings: Iterable[Trouble]
    draft: Draft
    allow_code: bool = False


def list_rows(state: RunState) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of a run's parameters by what they decide: the result, the cost, or nothing to change."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUPS}
    warnings = _collect_warnings(state.findings)
    places = {path: number for number, path in enumerate(FIRST)}
    for knob, value in sorted(_list_shown(state), key=lambda shown: places.get(shown[0].path, len(FIRST))):
        found[choose_group(knob)].append(_build_row(state, knob, value, warnings.get(knob.path, "")))
    return found


def choose_group(knob: Knob) -> str:
    """Returns what a parameter decides, by its declaration.

    A parameter that is best left alone says so in `leave`. One whose reasons to change it are all about memory and
    time, or that has such a cost and no reason to change it at all, decides the cost. The others decide the result.
    """
    if knob.path in ELSEWHERE:
        return ELSEWHERE[knob.path]
    if knob.leave:
        return LEAVE
    reasons = [reason for reason in (knob.raise_when, knob.lower_when) if reason]
    if (knob.memory or knob.time) and all(OF_COST.search(reason) for reason in reasons):
        return COST
    return RESULT


def _list_shown(state: RunState) -> Iterator[tuple[Knob, Any]]:
    for knob, value in walk_settings(state.run):
        path = knob.path
        preset = next((group for prefix, group in ONLY_WITH.items() if path.startswith(prefix)), None)
        if path in HIDDEN or (preset is not None and preset not in state.draft.adds):
            continue
        if state.allow_code or path not in CODE:
            yield knob, value


def _collect_warnings(findings: Iterable[Trouble]) -> dict[str, str]:
    """Returns the first sentence about each parameter, errors first; notes only about unusual values."""
    found: dict[str, str] = {}
    for trouble in findings:
        about = trouble.about or RULES[trouble.rule].about
        if about and (trouble.severity is not Severity.note or trouble.rule == UNUSUAL):
            found.setdefault(about, str(trouble.sentence))
    return found


def _build_row(state: RunState, knob: Knob, value: Any, warning: str) -> dict[str, Any]:
    decision = state.decisions.get(knob.path) or Decision(knob.path, value, Kind.default)
    origin = ORIGINS.get(decision.kind, "derived")
    typed = state.draft.values.get(knob.path)
    usual, derived = knob.find_usual(state.run), _derive(state, knob, decision)
    sure = grade_value(knob.sure, decision if decision.derived else None)
    plain = to_plain(value)
    return {
        "path": knob.path,
        "title": get_title(knob.path),
        "group": knob.group.partition(".")[0] or "run",
        "option": knob.option,
        "kind": get_kind(knob),
        "choices": list(knob.choices),
        "value": plain,
        "text": typed if typed is not None and origin == "yours" else format_typed(plain),
        "origin": origin,
        "reason": decision.reason,
        "sure": sure.value if sure else "",
        "legal": describe_range(knob.bounds),
        "usual": describe_range(usual),
        "derived": derived,
        "empty": describe_empty(knob),
        "advice": get_knob_text(knob, "advice"),
        "warning": warning,
        "log": is_logarithmic(knob.bounds, usual, [plain, derived]),
    }


def describe_empty(knob: Knob) -> str | None:
    """Returns what an empty value means, None if the parameter must have one."""
    return None if knob.empty is None else translate_text(knob.path, "empty", knob.empty.words)


def _derive(state: RunState, knob: Knob, decision: Decision) -> Any:
    """Returns the value that a parameter would have if it were left empty; None if no rule gives one."""
    if decision.derived:
        return to_plain(decision.value)
    rule = knob.empty.rule if knob.empty is not None else None
    if rule is None:
        return None
    try:
        return to_plain(rule(state.run, state.facts).value)
    except (FulguriteError, ArithmeticError, TypeError):  # the rule needs something that this run lacks
        return None


def describe_range(usual: Usual | None) -> dict[str, Any] | None:
    """Returns a range or a list of values as JSON has it."""
    if usual is None:
        return None
    if isinstance(usual, Range):
        return {name: getattr(usual, name) for name in ("low", "high", "open_low", "open_high")}
    return {"values": [to_plain(value) for value in usual]}


def is_logarithmic(bounds: Range | None, usual: Usual | None, values: Iterable[Any]) -> bool:
    """Returns whether the bar of a parameter is drawn on a logarithmic scale."""
    ends = [usual.low, usual.high] if isinstance(usual, Range) else list(usual or ())
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    known = [float(x) for x in (*ends, *flat) if isinstance(x, int | float) and not isinstance(x, bool)]
    return bool(known) and build_scale(bounds or Range(), known).logarithmic
