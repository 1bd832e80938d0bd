"""A few hundred mutations of every kind of input; `make fuzz` tries thousands. The fuzzer itself is tried on faults
that it must see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import fuzz
from tests.faults.targets import TARGETS, Target

from fulgurite.errors import DataError

SEED = 13
DATA = [
    kind
    for kind in TARGETS if kind.startswith(("file", "records")) and "arrow" not in kind and "parquet" not in kind
]
MODELS = [kind for kind in TARGETS if kind.startswith("model")]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    for kind in ("records.openai", "model.config"):
        TARGETS[kind].prepare()


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.filterwarnings("ignore")
def test_mutated_data_end_in_examples_or_one_line(kind: str, tmp_path: Path) -> None:
    outcomes = [fuzz.attempt(TARGETS[kind], SEED, number, tmp_path) for number in range(20)]
    assert [said for outcome, said in outcomes if outcome == "fault"] == []
    assert any(outcome in ("part", "refused") for outcome, _ in outcomes)


def test_mutated_tables_end_in_examples_or_one_line() -> None:
    """In a child process: a crash would end this one."""
    results = fuzz.tried("tables", SEED, 0, 100)
    assert len(results) == 100
    assert [result for result in results if result[2] == "fault"] == []


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_mutated_models_end_in_a_model_or_one_line(kind: str, tmp_path: Path) -> None:
    outcomes = [fuzz.attempt(TARGETS[kind], SEED, number, tmp_path) for number in range(10)]
    assert [said for outcome, said in outcomes if outcome == "fault"] == []


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_mutated_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every mutation would be refused for a reason that is not its own."""
    from tests.faults import targets

    for name in ("mutate_bytes", "mutate_value", "mutate_number"):
        monkeypatch.setattr(targets, name, lambda value, chance: value)
    for kind in TARGETS:
        assert [fuzz.attempt(TARGETS[kind], SEED, number, tmp_path) for number in range(3)] == [("good", "")] * 3, kind


def test_the_fuzzer_sees_exceptions_long_lines_and_slow_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(seed: int, number: int, folder: Path) -> str:
        raise [TypeError("x"), DataError("y" * 4000), DataError("short")][number]

    found = [fuzz.attempt(Target(fails, lambda: None), 0, number, tmp_path) for number in range(3)]
    assert [outcome for outcome, _ in found] == ["fault", "fault", "refused"]
    assert found[0][1].startswith("TypeError: x at ")
    monkeypatch.setattr(fuzz, "MOST_SECONDS", -1.0)
    assert fuzz.attempt(Target(lambda *_: "good", lambda: None), 0, 0, tmp_path)[0] == "fault"


CRASH = """
import os, signal, sys
from tests.faults import fuzz, targets
def crash(seed, number, folder):
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return "good"
targets.TARGETS["file.csv"] = targets.Target(crash, lambda: None)
fuzz.work("file.csv", 0, *map(int, sys.argv[1:]))
"""


def test_the_fuzzer_sees_a_crash_and_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def instead(words: list[str], **more: object) -> object:
        _, first, last = words[words.index("--work") + 1].split(":")
        return real(
            [sys.executable, "-c", CRASH, first, last], env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])},
            **more
        )

    monkeypatch.setattr(fuzz.subprocess, "Popen", instead)
    results = fuzz.tried("file.csv", 0, 0, 5)
    assert [(number, outcome) for _, number, outcome, _ in results] == [
        (0, "good"), (1, "good"), (2, "fault"), (3, "good"), (4, "good"),
    ]
    assert results[2][3] == f"the process ended with {-signal.SIGSEGV}"
