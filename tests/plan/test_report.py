"""The plan as text and as JSON, part by part."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.plan.facts import build_facts

from fulgurite.language import use_language
from fulgurite.plan.context import DataFacts, Disk, Machine, Memory, MemoryPart, ModelFacts, PlanFacts, Weights
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.report import (
    PlanReport,
    draw_bars,
    format_data,
    format_disk,
    format_headline,
    format_memory,
    format_parameters,
    format_screen,
    format_size,
    format_troubles,
)
from fulgurite.plan.timing import Timing
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.accountant import compute_epsilon
from fulgurite.rules.registry import Severity
from fulgurite.run.resume_plan import ResumePlan
from fulgurite.text.layout import count_cells

DTYPES = Dtypes("fp32", "32-true", torch.float32, torch.float32, torch.float32, "the CPU multiplies no bf16")
ERROR = Trouble("rate.out-of-band", Severity.error, "It is high.", "optim.lr=0.001")
WORDY = Trouble("data.cache", Severity.note, "A sentence that is longer than a line of any terminal. " * 3)
TENSORS = [
    Weights("a", (100, 10), False, "mlp", 2000), Weights("b", (50, 6), True, "adapter", 1200),
    Weights("c", (200,), True, "adapter", 800),
]
SOURCES = ["a", "b", "c", "d", "e"]


def join(text: str) -> str:
    """Returns the text on one line, so that wrapping does not matter."""
    return " ".join(text.split())


def build(*words: str, **facts: Any) -> PlanFacts:
    known = {
        "model": ModelFacts(
            parameters=1500, trained=500, architecture="LlamaForCausalLM", path="my-model", template_name="chatml",
            tensors=TENSORS,
        ),
        "data": DataFacts(
            records=10, rows=6, val_rows=2, tokens=211, label_tokens=100, max_length=48, percentile_99=59, too_long=1,
            lengths=np.array([20, 32, 33, 33, 33, 60]), sources=SOURCES,
        ),
        "machine": Machine("cuda", "a GPU", 8_000_000_000, 10_000_000_000, 5_000_000),
        "disk": Disk(1000, 3, 4000),
    }
    return build_facts("trainer.global_batch_size=2", *words, **(known | facts))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (1400, "1.4 kB"), (2.5e6, "2.5 MB"), (1.44e9, "1.44 GB"),
        (3e12, "3 TB"),
    ],
)
def test_bytes_in_powers_of_ten(count: float, text: str) -> None:
    assert format_size(count) == text


def test_lengths_are_drawn_by_powers_of_two() -> None:
    first, second, last = draw_bars(build(), 100).split("\n")
    # 2 of 6 have at most 32 tokens, 4 at most 64; the longest bar has 40 columns
    assert re.fullmatch(r"≤     32  █{20} {20} +2   33\.3%", first)
    assert re.fullmatch(r"≤     64  █{40} +4   66\.7%", second)
    assert last == "99 % have at most 59 tokens; data.max_length=48: 1 are longer"
    assert draw_bars(build(data=None), 100) == draw_bars(build(data=DataFacts(lengths=np.array([]))), 100) == "none"


def test_parameters_are_counted_by_kind() -> None:
    head, frozen, trained = format_parameters(build()).split("\n")
    assert head.split() == ["kind", "parameters", "trained", "of", "trained", "stored"]
    assert frozen.split() == ["mlp", "1,000", "0", "0.00%", "2", "kB"]
    assert trained.split() == ["adapter", "500", "500", "100.00%", "2", "kB"]


def test_memory_has_a_column_for_each_phase() -> None:
    assert format_memory(build()) == "  not estimated"
    estimate = Memory(MemoryPart(1000, 2000, 3000, 4000, 5000, 6000), rollouts=MemoryPart(weights=7000))
    head, *parts, peak, free = format_memory(build(memory=estimate)).split("\n")
    assert head.split() == ["training", "rollouts"]
    assert [line.split()[0] for line in parts] == [
        "weights", "gradients", "optimizer", "activations", "logits", "other",
    ]
    assert parts[0].split()[1:] == ["1", "kB", "7", "kB"]
    assert peak.split() == ["peak", "21", "kB", "7", "kB"]
    assert free == "  8 GB of 10 GB are free on cuda"


def test_memory_of_several_processes_is_that_of_each() -> None:
    estimate = Memory(MemoryPart(1000, gathered=2000), offloaded=10**9)
    *parts, _, _, each, offloaded = format_memory(build("trainer.devices=2", memory=estimate)).split("\n")
    assert [line.split()[0] for line in parts[4:5]] == ["gathered"]
    assert each == "  each of 2 processes needs this memory: all of them hold the whole model"
    assert offloaded == "  1 GB of each process are in the memory of the CPU: 2 GB on a machine"


def test_disk_has_one_checkpoint_and_all_that_are_kept() -> None:
    assert format_disk(build("trainer.keep_checkpoints=2")) == (
        "1 kB a checkpoint; 3 are kept (trainer.keep_checkpoints=2, and the best) and one is being written: 4 kB; "
        "5 MB are free"
    )


def test_data_has_what_is_lost_and_what_is_odd() -> None:
    report = {
        "written_otherwise": {"system messages": 3}, "answers_left_out": {"no end": 2},
        "remarks": {"a number read as text": 4}, "unread_fields": {f"f{n}": n for n in range(1, 11)},
    }
    facts = DataFacts(
        records=10, rows=6, tokens=211, label_tokens=100, dropped={"longer than data.max_length": 3}, cut_answers=2,
        not_drawn=1, pieces=4, duplicates=5, report=report, sources=SOURCES,
    )
    text = join(format_data(build(data=facts), 80))
    for part in (
        "6 to train on, 0 for validation, of 10 records in a, b, c and 2 more files",
        "211 an epoch, 100 of them learned (47%)", "template chatml",
        "3 dropped (30.0%): longer than data.max_length; 2 truncated (20.0%); "
        "1 not drawn (data.max_samples or num_samples)",
        "4 more pieces of documents that were cut", "3 system messages; 2 answers left out (no end)",
        "4 with a number read as text", "fields that are not used: f1 (1), f2 (2)", "f8 (8) and 2 more",
        "5 duplicates",
    ):
        assert part in text
    assert "lost nothing" in join(format_data(build(), 80))


def test_first_lines_name_the_run_its_share_and_its_steps() -> None:
    facts = build("method=dora", "seed=7", "trainer.micro_batch_size=2", "scheduler.warmup_steps=30")
    text = join(format_headline(facts, DTYPES, 80))
    assert text.startswith("run sft with dora on my-model (LlamaForCausalLM), seed 7 trains 500 of 1,500 parameters")
    # 211 tokens in 6 rows, two a step
    assert "parameters (33.33%) steps 1,000 optimizer steps, 30 of them warmup; 2 examples a step" in text
    assert "in micro-batches of 2, about 70 tokens a step" in text
    assert text.endswith("device cuda, fp32: the CPU multiplies no bf16")
    resumed = join(format_headline(build(earlier=ResumePlan(Path("runs/a"), 5)), DTYPES, 80))
    assert "resumes from runs/a/checkpoints/step-5" in resumed


def test_given_noise_spends_an_epsilon() -> None:
    words = ("privacy=dp_sgd", "privacy.noise_multiplier=1.5", "privacy.delta=1e-4")
    facts = build(*words)
    spent = compute_epsilon([(1.5, 2 / 6, 1000)], 1e-4, facts.run.privacy.accountant)
    text = join(format_headline(facts, DTYPES, 80))
    assert f"privacy noise multiplier 1.5 spends epsilon {spent:.3g} at delta 0.0001" in text


def test_findings_have_their_rule_and_remedy() -> None:
    allowed = Trouble("a.b", Severity.error, "It is so.", allowed=True)
    first, remedy, second = format_troubles([ERROR, allowed], 80).split("\n")
    assert join(first) == "error It is high. [rate.out-of-band]"
    assert remedy.strip() == "→ optim.lr=0.001"
    assert join(second) == "error (allowed) It is so. [a.b]"
    assert format_troubles([], 80) == "  none: no rule has a finding"


def test_screen_has_every_part_and_json_the_same_numbers() -> None:
    facts = build(memory=Memory(MemoryPart(weights=1000), MemoryPart(weights=500)))
    timing = Timing(0.01, 0.25, 640)
    report = PlanReport(facts, DTYPES, [ERROR], facts.origins, timing)
    text = str(report)
    assert re.findall(r"^[A-Z]+$", text, re.M) == ["PARAMETERS", "DATA", "MEMORY", "DERIVED", "TROUBLES"]
    assert max(map(len, text.splitlines())) <= 80
    assert "method.alpha" in text.partition("DERIVED")[2]
    assert report.refused
    found = json.loads(json.dumps(report.to_dict()))
    assert (found["steps"], found["tokens"], found["parameters"], found["trainable"]) == (1000, 211, 1500, 500)
    assert found["memory"]["peak"] == found["memory"]["training"]["total"] == 1000
    assert found["disk"] == {"checkpoint": 1000, "kept": 3, "total": 4000, "free": 5_000_000}
    assert found["troubles"] == [{
        "rule": "rate.out-of-band", "severity": "error", "sentence": "It is high.", "remedy": "optim.lr=0.001",
        "overrides": ["optim.lr=0.001"], "allowed": False, "refuses": True,
    }]
    assert found["knobs"]["method.alpha"]["origin"] == "derived"
    assert found["seconds"] == pytest.approx(timing.estimate_seconds(facts))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_screen_is_as_wide_as_the_terminal(columns: int, language: str) -> None:
    facts = build(
        memory=Memory(MemoryPart(weights=10**9), MemoryPart(), MemoryPart(), MemoryPart(weights=10**9)),
        data=DataFacts(records=10, rows=6, lengths=np.array([20, 33, 60] * 400), sources=SOURCES),
    )
    with use_language(language):
        text = format_screen(facts, DTYPES, [ERROR, WORDY], None, columns)
    assert max(map(count_cells, text.splitlines())) <= columns
    assert ("PARAMETERS" in text) is (language == "en")


def test_columns_of_tables_end_at_one_place_in_chinese() -> None:
    with use_language("zh"):
        lines = format_parameters(build()).split("\n")
    assert len({count_cells(line) for line in lines}) == 1
