"""What to train with which method, by data, machine and size of the model; the numbers come from the declarations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from fulgurite.config.decision import Decision
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill_run
from fulgurite.config.run import RunConfig
from fulgurite.config.schema import Usual, list_knobs, list_options
from fulgurite.explain.knob_index import build_default_run
from fulgurite.explain.model_shapes import BUNDLED, LENGTH, SHAPES, Demand, ModelShape, estimate_bytes
from fulgurite.language import UserMessage, message
from fulgurite.model.config import Hf

GIGABYTE = 2**30
FITS = 0.9
"""The share of a machine's memory that a run may need; plan/thresholds.py warns from 80 % and refuses at 95 %."""
MANY = Facts(rows=100_000, percentile_99=LENGTH, model_length=32 * LENGTH, device="cuda")
"""Data with enough examples for the usual batch."""


@dataclass(frozen=True, slots=True)
class DataKind:
    """Data that a person may have, the stage that learns from them, and what the command needs besides."""

    key: str
    title: UserMessage
    example: str
    stage: str
    words: tuple[str, ...] = ("data=file", "data.path=my.jsonl")


DATA = (
    DataKind("answers", message("Questions with answers"), '{"instruction": "…", "output": "…"}', "sft"),
    DataKind(
        "pairs", message("Pairs: a better and a worse answer"), '{"prompt": "…", "chosen": "…", "rejected": "…"}', "dpo"
    ),
    DataKind(
        "marks", message("Answers marked good or bad"), '{"prompt": "…", "completion": "…", "label": true}', "kto"
    ),
    DataKind(
        "checkable", message("Questions whose answers a program can check"), '{"prompt": "…", "answer": "42"}', "grpo",
        ("'stage.reward=[\"match:answer\"]'", "scheduler=constant_with_warmup", "data=file", "data.path=my.jsonl"),
    ),
    DataKind("text", message("Plain text"), '{"text": "…"}', "pt"),
)


@dataclass(frozen=True, slots=True)
class MachineKind:
    """A machine: its device and the memory that a run may use, in GB."""

    key: str
    title: UserMessage
    device: str
    gigabytes: int


MACHINES = (
    MachineKind("cpu", message("CPU, {size} GB of memory", size=16), "cpu", 16),
    *(
        MachineKind(f"gpu{size}", message("GPU with {size} GB", size=size), "cuda", size)
        for size in (8, 12, 16, 24, 48, 80)
    ),
)


@dataclass(slots=True)
class SizedModel(Hf):
    """A model of a known size, for the rules that ask for it."""

    size: float = 7.0

    def billions(self) -> float | None:
        return self.size


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """A method for a stage, a model and a machine, with the memory that the run needs in GB."""

    method: str
    checkpointing: bool
    gigabytes: float
    fits: bool


@dataclass(frozen=True, slots=True)
class SettingChoice:
    """The value of a parameter in a run: why it has this value, and what is usual there."""

    path: str
    value: Any
    usual: Usual | None
    derived: Decision | None


@cache
def build_sized_run(stage: str, method: str, billions: float) -> tuple[RunConfig, tuple[Decision, ...]]:
    """Returns a run on a model of this size, with its empty parameters filled, and the decisions."""
    run = replace(build_default_run(stage=stage, method=method, model="hf"), model=SizedModel(size=billions))
    run, first = fill_run(run, MANY, "config")
    run, then = fill_run(run, MANY, "data")
    return run, (*first, *then)


def find_setting(stage: str, method: str, billions: float, path: str) -> SettingChoice:
    """Returns the value of a parameter in a run on a model of this size."""
    run, decisions = build_sized_run(stage, method, billions)
    group, _, name = path.partition(".")
    node = getattr(run, group)
    knob = next(k for k in list_knobs(type(node)) if k.name == name)
    derived = next((decision for decision in decisions if decision.parameter == path), None)
    return SettingChoice(path, getattr(node, name), knob.find_usual(run), derived)


@cache
def measure_gigabytes(stage: str, method: str, shape: ModelShape, device: str, checkpointing: bool) -> float:
    """Returns the memory that a run needs with one example of 1,024 tokens at a time, in GB."""
    run, _ = build_sized_run(stage, method, shape.billions)
    precision: Any = list_options("precision")["bf16" if device == "cuda" else "fp32"]()
    demand = Demand(run.stage, run.method, run.optim, precision, device, checkpointing)
    return estimate_bytes(shape, demand) / GIGABYTE


def reads_text(stage: str) -> bool:
    """Returns whether a stage learns from plain text."""
    kind: Any = list_options("stage")[stage]
    return bool(kind.reads.running_text)


def list_methods(stage: str) -> tuple[str, ...]:
    """Returns the methods to try for a stage, the preferred one first: all weights for plain text, else LoRA."""
    return ("full", "lora", "qlora") if reads_text(stage) else ("lora", "qlora")


def choose_method(stage: str, shape: ModelShape, machine: MachineKind) -> MethodChoice:
    """Returns the first method that fits the machine; the smallest, marked, if none does."""
    choice = None
    for method in list_methods(stage):
        for checkpointing in (False, True):
            need = measure_gigabytes(stage, method, shape, machine.device, checkpointing)
            choice = MethodChoice(method, checkpointing, need, need <= FITS * machine.gigabytes)
            if choice.fits:
                return choice
    assert choice is not None
    return replace(choice, fits=False)


def find_largest(stage: str, machine: MachineKind) -> ModelShape:
    """Returns the largest model that a stage can train on a machine."""
    return [shape for shape in SHAPES if choose_method(stage, shape, machine).fits][-1]


def build_command(data: DataKind, shape: ModelShape, choice: MethodChoice) -> str:
    """Returns the words after `fulgurite train`: what the choice needs beyond the defaults."""
    words = [f"stage={data.stage}", f"method={choice.method}"]
    path = shape.path if reads_text(data.stage) else shape.tuned
    words += [] if shape is BUNDLED and not reads_text(data.stage) else ["model=hf", f"model.path={path}"]
    words += data.words
    words += ["trainer.gradient_checkpointing=true"] if choice.checkpointing else []
    return " ".join(words)


def list_decisions() -> Iterator[tuple[DataKind, MachineKind, ModelShape, MethodChoice]]:
    """Yields every combination of data, machine and size with its method."""
    for data in DATA:
        for machine in MACHINES:
            for shape in SHAPES:
                yield data, machine, shape, choose_method(data.stage, shape, machine)
