"""Averages the weights of runs or checkpoints, and writes the result as a folder that plain transformers loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from transformers import PreTrainedModel

from fulgurite.checkpoint.folder import parse_step
from fulgurite.config.average_arguments import Average, AverageWeights
from fulgurite.config.export_arguments import Export
from fulgurite.config.guard import Allowed
from fulgurite.config.provenance import to_plain
from fulgurite.errors import ModelError, RequestError
from fulgurite.export.folder import write_new_folder
from fulgurite.export.model import write
from fulgurite.export.result import Written
from fulgurite.run.input_hashes import hash_inputs
from fulgurite.run.load import LoadedRun, load_run, merge_trained
from fulgurite.run.sources import choose_checkpoint

NAME = "average.json"
"""The file that lists the members of an average."""


@dataclass(frozen=True, slots=True)
class Member:
    """One model of an average: a checkpoint of a run, and how much it counts."""

    run: Path
    checkpoint: Path
    weight: float

    @property
    def name(self) -> str:
        """The run and the checkpoint, for a table."""
        return f"{self.run.name}/{self.checkpoint.name}"


def find_members(config: Average) -> list[Member]:
    """Returns the members with their weights, which add up to 1. Raises RequestError if one is given twice."""
    ema = config.weights is AverageWeights.ema
    runs = [Path(run).expanduser() for run in config.run]
    places = [(run, choose_checkpoint(run, name).resolve()) for run in runs for name in config.checkpoints]
    if ema:
        places.sort(key=lambda pair: parse_step(pair[1]) or 0)
    for n, (run, place) in enumerate(places):
        if place in [other for _, other in places[:n]]:
            raise RequestError(
                "{place} of {run} is given twice; give each checkpoint once (best and last are names of one).",
                place=place.name, run=run,
            )
    weights = compute_ema_weights(len(places), config.decay) if ema else [1 / len(places)] * len(places)
    return [Member(run, place, weight) for (run, place), weight in zip(places, weights, strict=True)]


def choose_decay(members: int, decay: float | None) -> float:
    """Returns the decay of a moving average over so many checkpoints."""
    return 1 - 2 / (members + 1) if decay is None else decay


def compute_ema_weights(members: int, decay: float | None) -> list[float]:
    """Returns how much each checkpoint counts in a moving average that begins with the first one."""
    kept = choose_decay(members, decay)
    return [kept ** (members - 1 - n) * (1 if n == 0 else 1 - kept) for n in range(members)]


def write_average(config: Average, members: list[Member], out: Path, allowed: Allowed) -> tuple[LoadedRun, Written]:
    """Averages the members in float32 and writes the folder; returns the first member with the averaged model.

    Adapters are merged into their base first: the mean of B·A over the members is not the product of the mean B and
    the mean A, and members may have adapters of different forms. Raises ModelError if the members have other bases,
    shapes or tokenizers.
    """
    loaded = average(config, members, allowed)
    with write_new_folder(out, config.run[0]) as draft:
        written = write(loaded, draft, Export(run=config.run[0], out=config.out, dtype=config.dtype))
        (draft / NAME).write_text(json.dumps(describe_members(config, members), indent=1), encoding="utf-8")
    return loaded, written


def average(config: Average, members: list[Member], allowed: Allowed) -> LoadedRun:
    """Returns the first member with the mean of all. At most two models and the average are in memory."""
    ema = config.weights is AverageWeights.ema
    decay = choose_decay(len(members), config.decay)
    build: Any = get_ema_multi_avg_fn if ema else get_swa_multi_avg_fn  # untyped in torch
    function = build(decay) if ema else build()
    mean: AveragedModel | None = None
    for first, loaded in _load_members(members, allowed):
        if mean is None:
            mean = AveragedModel(loaded.model, multi_avg_fn=function)
        check_alike(first, loaded, mean.module)
        mean.update_parameters(loaded.model)
    assert mean is not None
    first.model = mean.module
    return first


def _load_members(members: list[Member], allowed: Allowed) -> Iterator[tuple[LoadedRun, LoadedRun]]:
    """Yields the first member and each one, with the trained weights merged."""
    first: LoadedRun | None = None
    for member in members:
        loaded = load_run(member.run, member.checkpoint.name, exact=True, allowed=allowed)
        loaded.model = merge_trained(loaded.model).requires_grad_(False)
        first = first or loaded
        yield first, loaded


def check_alike(first: LoadedRun, other: LoadedRun, model: PreTrainedModel) -> None:
    """Raises ModelError if another member cannot be averaged with the first one, whose shapes `model` has."""
    names = {"first": _name_place(first), "other": _name_place(other)}
    if first.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        raise ModelError("{other} has another tokenizer than {first}; average runs of one base.", **names)
    if _identify_base(first) != _identify_base(other):
        raise ModelError("{other} was trained from another base than {first}; average runs of one base.", **names)
    shapes, found = _list_shapes(model), _list_shapes(other.model)
    if differ := sorted(name for name in {*shapes, *found} if shapes.get(name) != found.get(name)):
        raise ModelError(
            "{other} has other weights than {first}: {name} is {found} and not {shape}; average runs of one base.",
            name=differ[0], found=found.get(differ[0]), shape=shapes.get(differ[0]), **names,
        )


def _name_place(loaded: LoadedRun) -> str:
    return str(loaded.checkpoint)


def _list_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def _identify_base(loaded: LoadedRun) -> dict[str, Any]:
    """Returns what makes the base of a run the same as another one's: the hash of its files, or its parameters."""
    hashes = hash_inputs(loaded.run.model, loaded.run.method, loaded.run.stage)
    if "weights" in hashes:
        return {"weights": hashes["weights"]}
    plain: dict[str, Any] = to_plain(loaded.run.model)
    return {name: value for name, value in plain.items() if name != "attention"}


def describe_members(config: Average, members: list[Member]) -> dict[str, Any]:
    """Returns the members for a file: their names and weights, without paths of this machine."""
    return {
        "weights": str(config.weights),
        "members": [{"run": m.run.name, "checkpoint": m.checkpoint.name, "weight": m.weight} for m in members],
    }
