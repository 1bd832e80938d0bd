"""Does a run of several processes compute what one process does? Every stage and method under every strategy.

Each run is trained in float32 on the tiny model: in one process; in several; and once more in several, stopped in the
middle and resumed. Then it is exported. `python -m tests.strategy.table` writes docs/strategies.md, which takes some
ten minutes on two cores; `--only dpo,fsdp` prints those rows. tests/strategy/test_table.py checks each cell.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tests.end_to_end.runs import rows, tiny, tiny_experiment, weights
from tests.stage.policy_runs import COUNT
from tests.stage.preference_data import judged, pairs, written
from tests.strategy.together import train_together

from fulgurite.errors import ConfigError
from fulgurite.export.model import export_main
from fulgurite.plan.preflight import refuse_impossible

OUT = Path(__file__).parents[2] / "docs" / "strategies.md"
EQUAL = 1e-5
"""How far a weight, a loss or another number of metrics.jsonl may be from that of one process."""
STEPS, HALF = 4, 2
NINE = [
    "trainer.global_batch_size=9", "trainer.micro_batch_size=2", "trainer.eval_every=2", "data.val_fraction=0.15",
    "data.max_samples=47", "scheduler=constant", "optim.lr=1e-3",
]
"""Two processes get 5 and 4 examples of a step, and in the last one of an epoch the second has none for some of its
micro-batches; the validation batches are not a multiple of the processes."""
ROLLOUT = [*COUNT, "stage.max_new_tokens=6", "stage.rollout_batch=4", "data.val_fraction=0.15"]
STAGES = {
    "pt": ["data.packing=best_fit", "data.max_length=32"], "sft": [], "rm": [], "dpo": [], "kto": [],
    "ppo": [*ROLLOUT, "trainer.global_batch_size=14", "stage.minibatches=2", "stage.epochs_per_rollout=2"],
    "grpo": [*ROLLOUT, "trainer.global_batch_size=5", "stage.num_generations=3", "stage.kl_coefficient=0.05"],
}
"""The words of each stage."""
METHODS = ("full", "lora", "qlora")
ADAPTERS = ("oft", "ia3", "vera", "llama_pro")
"""Methods that are compared in stage sft."""
STRATEGIES = {
    "ddp": ("strategy=ddp", 2),
    "ddp on 3": ("strategy=ddp", 3),
    "fsdp": ("strategy=fsdp", 2),
    "fsdp on 3": ("strategy=fsdp", 3),
    "reshard=false": ("strategy=fsdp strategy.reshard=false", 2),
    "hybrid=2": ("strategy=fsdp strategy.hybrid=2", 4),
    "offload": ("strategy=fsdp strategy.offload=true", 2),
    "activation_checkpointing": ("strategy=fsdp strategy.activation_checkpointing=true", 2),
}
"""The words of each strategy, and the processes."""
BASIC = ("ddp", "fsdp")
"""The strategies of every stage and method."""
FURTHER = (("sft", "full"), ("dpo", "lora"))
"""What is trained under the others as well."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    stage: str
    method: str
    strategy: str
    difference: float | None = None
    """The largest difference to one process; None if it did not train."""
    resumed: bool = False
    """Whether the run that was stopped and resumed is the other one, bit for bit."""
    exported: bool = False
    """Whether transformers loads the export, and computes what the run's model does."""
    note: str = ""
    """Why it is refused."""
    failure: str = ""
    """What a process printed that failed."""
    is_run: bool = True
    """Whether the cell was run at all."""

    @property
    def right(self) -> bool:
        """Whether everything is as with one process, or refused with a reason."""
        equal = self.difference is not None and self.difference <= EQUAL and self.resumed and self.exported
        return equal or bool(self.note)


def list_cells() -> Iterator[tuple[str, str, str]]:
    """Yields the stage, the method and the strategy of each row."""
    for stage in STAGES:
        for method in (*METHODS, *(ADAPTERS if stage == "sft" else ())):
            for strategy in STRATEGIES:
                if strategy in BASIC or (stage, method) in FURTHER:
                    yield stage, method, strategy


def list_words(folder: Path, stage: str, method: str) -> list[str]:
    """Returns the words of a run, without its folder and its strategy; writes the data into `folder`."""
    words = [f"stage={stage}", f"method={method}", *NINE, f"trainer.max_steps={STEPS}", *STAGES[stage]]
    if stage == "sft" or stage in ("ppo", "grpo"):
        return words
    records: Any = pairs(47)
    if stage == "pt":
        records = [{"text": f"{pair['chosen']} " * (n % 5 + 1)} for n, pair in enumerate(records)]
    elif stage == "kto":
        records = judged(24)[:47]
    return [*words, "data=file", f"data.path={written(folder / f'{stage}.jsonl', records)}"]


def compare(folder: Path, stage: str, method: str, strategy: str) -> Row:
    """Trains the runs of a row in `folder`, and compares them."""
    row, words = Row(stage, method, strategy), list_words(folder, stage, method)
    choice, ranks = STRATEGIES[strategy]
    several = [*words, *choice.split(), f"trainer.devices={ranks}", "trainer.accelerator=cpu"]
    one, whole, parts = folder / f"{stage}-{method}", folder / "whole", folder / "parts"
    if not one.exists():
        tiny(one, *words)
    half, rest = [f"trainer.max_steps={HALF}"], ["resume.allow=[trainer.max_steps]"]
    try:
        refuse_impossible(tiny_experiment(whole, *several).composed.run)
    except ConfigError as error:
        return replace(row, note=str(error))
    try:
        train_together(ranks, (whole, several), (parts, [*several, *half]), (parts, [*several, *rest]))
    except AssertionError as error:
        return replace(row, failure=str(error))
    return replace(
        row, difference=measure(whole, one), resumed=is_same(parts, whole), exported=export(whole, folder)
    )


def measure(folder: Path, other: Path) -> float:
    """Returns the largest difference of two runs: of a weight, or of a number of metrics.jsonl, relative above 1."""
    mine, theirs = weights(folder), weights(other)
    assert mine.keys() == theirs.keys()
    found = [float((mine[name].double() - theirs[name].double()).abs().max()) for name in mine]
    for numbers, expected in zip(rows(folder), rows(other), strict=True):
        assert numbers.keys() == expected.keys()
        timed = {name for name in expected if "per_second" in name}
        found += [abs(numbers[n] - x) / max(1.0, abs(x)) for n, x in expected.items() if n not in timed]
    return max(found)


def is_same(folder: Path, other: Path) -> bool:
    """Returns whether two runs have the same weights and the same numbers, bit for bit."""
    mine, theirs = weights(folder), weights(other)
    same = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    return same and without_times(folder) == without_times(other)


def without_times(folder: Path) -> list[dict[str, Any]]:
    """Returns metrics.jsonl without what time decides."""
    return [{name: x for name, x in numbers.items() if "per_second" not in name} for numbers in rows(folder)]


def export(run: Path, folder: Path) -> bool:
    """Exports a run; the export is loaded by transformers and compared with the run's model."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        return export_main([f"run={run}", f"out={folder / 'out'}"]) == 0


def format_page(found: Sequence[Row]) -> str:
    """Returns docs/strategies.md; a cell of the table that has no row is marked as not run."""
    largest = max(row.difference or 0.0 for row in found)
    rows_by_cell = {(row.stage, row.method, row.strategy): row for row in found}
    every = [rows_by_cell.get(cell, Row(*cell, is_run=False)) for cell in list_cells()]
    refused = sorted({row.note for row in found if row.note})
    lines = [
        "# Strategies", "",
        f"Generated by `make strategies`: {len(found)} runs of the tiny model in float32, on CPU processes connected "
        "by gloo. Each has",
        f"{STEPS} steps of 9 examples (ppo 14, grpo 5 prompts), which 2 and 4 processes do not divide, and two "
        "evaluations.", "",
        "- Difference: the largest one to the same run in one process, of a trained weight or of a number in "
        "metrics.jsonl",
        f"  (relative above 1). At most {EQUAL:g} is right; the largest is {largest:.0e}.",
        f"- Resumed: stopped after step {HALF} and resumed, it ends with the same weights and numbers, bit for bit.",
        "- Exported: transformers loads the export, and it computes what the run's model does.", "",
        "| stage | method | strategy | processes | difference | resumed | exported |", "|---|---|---|---|---|---|---|",
        *map(format_row, every), "",
    ]
    if refused:
        lines += ["What is not proven is refused before it starts:", "", *(f"- {note}" for note in refused), ""]
    return "\n".join(lines)


def format_row(row: Row) -> str:
    """Returns one line of the table."""
    choice, ranks = STRATEGIES[row.strategy]
    cells = [row.stage, row.method, f"`{choice}`", str(ranks)]
    if row.difference is None:
        why = "not run" if not row.is_run else "**fails**" if row.failure else "refused"
        return f"| {' | '.join([*cells, why, '', ''])} |"
    answers = ["yes" if answer else "**no**" for answer in (row.resumed, row.exported)]
    return f"| {' | '.join([*cells, f'{row.difference:.0e}' if row.difference else '0', *answers])} |"


def main() -> None:
    """Compares, prints each row, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows with these words, with commas between; nothing is written")
    only = [word for word in parser.parse_args().only.split(",") if word]
    chosen = [cell for cell in list_cells() if all(any(word == part for part in cell) for word in only)]
    found = []
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for cell in chosen:
            start, place = time.perf_counter(), Path(scratch) / "-".join(cell)
            place.mkdir()
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
                row = compare(place, *cell)
            found.append(row)
            mark = "" if row.right else "WRONG "
            print(f"{mark}{format_row(row)} {row.note}{row.failure} {time.perf_counter() - start:.0f} s", flush=True)
    if not only:
        OUT.write_text(format_page(found), encoding="utf-8")
    if not all(row.right for row in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
