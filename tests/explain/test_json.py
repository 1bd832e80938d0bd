"""What a program reads: one entry an option's knob, the keys that the design fixes, plain JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from fulgurite.cli.explain import explain_main
from fulgurite.config.facts import Facts
from fulgurite.config.resolve import fill_run
from fulgurite.config.schema import Knob
from fulgurite.explain import build_entries
from fulgurite.explain.knob_index import build_default_run, list_contexts, list_every_knob
from fulgurite.explain.search import parse_question

KEYS = [
    "knob", "group", "option", "type", "default", "meaning", "source", "sure", "links", "advice", "raise_when",
    "lower_when", "leave",
    "interacts", "memory", "time", "misread", "bounds", "usual", "empty",
]
RANGE = {"low", "high", "open_low", "open_high"}
ENTRIES = build_entries()


def knobs_called(name: str) -> tuple[Knob, ...]:
    return parse_question(name).knobs


def test_one_entry_a_declaration() -> None:
    assert len(ENTRIES) == len(list_every_knob())
    named = {(e["knob"], e["option"]) for e in ENTRIES}
    assert len(named) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e['knob']}-{e['option']}")
def test_entries_hold_to_the_schema(entry: dict[str, Any]) -> None:
    assert list(entry) == KEYS
    assert json.loads(json.dumps(entry)) == entry
    for name in ("knob", "type", "meaning", "source", "advice"):
        assert isinstance(entry[name], str)
        assert entry[name]
    assert isinstance(entry["option"], str)
    assert entry["knob"] == entry["group"] or entry["knob"].startswith(entry["group"])
    assert entry["bounds"] is None or set(entry["bounds"]) == RANGE
    assert entry["usual"] is None or set(entry["usual"]) in (RANGE, {"values"}, {"by"})
    assert entry["empty"] is None or set(entry["empty"]) == {"words", "needs"}
    assert entry["default"] is not None or entry["empty"] is not None


def test_the_usual_rate_is_told_for_each_context() -> None:
    [entry] = [e for e in ENTRIES if e["knob"] == "optim.lr" and e["option"] == "adamw"]
    by = {(c["stage"], c["method"], c["model"]): c for c in entry["usual"]["by"]}
    assert by["sft", "lora", "smollm2_135m"]["value"] == 1e-3
    assert by["sft", "lora", "smollm2_135m"]["usual"]["low"] == 1e-4
    assert by["sft", "full", "hf"]["value"] == 1e-5


def test_each_option_is_put_into_its_own_context() -> None:
    adamw, sgd = (next(k for k in knobs_called("optim.lr") if k.option == name) for name in ("adamw", "sgd"))
    ours = [c.derived.value for c in list_contexts(adamw) if c.derived]
    theirs = [c.derived.value for c in list_contexts(sgd) if c.derived]
    assert theirs == pytest.approx([100 * rate for rate in ours])  # SGD's factor in optim/rates.py
    lora = {c.method for c in list_contexts(knobs_called("method.alpha")[0])}
    assert lora == {"lora"}


def test_the_default_run_is_filled_from_the_config_alone() -> None:
    run, decisions = fill_run(build_default_run(), Facts())
    assert run.optim.lr == next(found.value for found in decisions if found.parameter == "optim.lr")
    assert run.method.alpha == 128
    assert run.scheduler.warmup_steps is None  # needs the number of steps


@pytest.mark.parametrize(
    ("words", "knobs"),
    [
        (["optim.lr"], {"optim.lr"}), (["optim.lr", "seed"], {"optim.lr", "seed"}),
        (["logger=wandb"], {f"logger.wandb.{name}" for name in (
            "group", "git_commit", "command_line", "checkpoints", "upload_wait", "project", "entity", "id", "job_type",
            "tags", "notes", "mode", "alerts", "lineage", "wait",
        )}),
        (["resume"], {"resume.run", "resume.allow"}), (["precision=bf16"], set()),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_the_command_prints_what_was_asked(
    words: list[str], knobs: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain_main([*words, "--json"]) == 0
    assert {e["knob"] for e in json.loads(capsys.readouterr().out)} == knobs


@pytest.mark.parametrize(
    "words",
    [
        [], ["optim.lr"], ["scheduler=cosine"], ["--json"], ["scheduler", "--plot"], ["--search", "rank"],
        ["stage=dpo", "--plot"],
        ["--html"], ["optim.lr", "--lang", "zh"], ["--html", "--lang", "zh"],
    ],
)
def test_nothing_heavy_is_imported(words: list[str]) -> None:
    code = (
        "import sys\nfrom fulgurite.cli.explain import explain_main\nassert explain_main(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'transformers', 'lightning', 'numpy', 'hydra', 'omegaconf', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)


def test_a_terminal_without_unicode_gets_an_answer() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fulgurite", "explain", "scheduler=cosine", "--plot"],
        env={"PYTHONIOENCODING": "ascii:strict", "PATH": ""}, capture_output=True, text=True, check=True,
    )
    assert "warmup ends at step 100" in done.stdout
