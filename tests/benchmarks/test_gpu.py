"""The table of `make gpu` on a CPU with tiny sizes, its worker and its report; and the checks that a GPU adds."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import attention
from benchmarks.gpu.report import format_tables, summarise
from benchmarks.gpu.rows import Row, list_rows
from benchmarks.gpu.scale import GPU, TINY, Bench
from benchmarks.gpu.training import LARGE_SCALE, Overflow, RowFailed, compare_devices, run_overflow, run_stage
from benchmarks.gpu.worker import Worker, run_row, run_rows
from tests.end_to_end.runs import copy_until, losses, rows, tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries that a user of the table would see as well
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
ROWS = list_rows()
QUICK = (
    "bf16 matrix product", "grpo, pure_bf16", "dpo, fp16", "qlora, sft, fp16", "adamw_8bit", "full, plain loop",
    "lora, fulgurite", "loop", "full, bf16, 1024, 8, optim=adamw_8bit",
)
"""A row of each function of the table but TRL's, whose import alone takes long."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(TINY, "cpu", tmp_path)


def run_quietly(bench: Bench, chosen: dict[int, Row]) -> list[dict[str, Any]]:
    return run_rows(chosen, lambda number, _: run_row(ROWS[number], bench), 600, lambda *_: None)


def test_a_row_of_each_kind_runs(bench: Bench) -> None:
    chosen = {n: row for n, row in enumerate(ROWS) if row.name in QUICK}
    assert len(chosen) == len(QUICK)
    results = run_quietly(bench, chosen)
    assert [(result["name"], result.get("error")) for result in results if result["state"] != "ok"] == []
    table = format_tables(results)
    assert all(f"| {name} |" in table for name in QUICK)


@pytest.mark.matrix
def test_every_row_runs(bench: Bench) -> None:
    results = run_quietly(bench, dict(enumerate(ROWS)))
    assert [(result["name"], result.get("error")) for result in results if result["state"] == "failed"] == []


def test_attention_that_looks_into_other_documents_fails_its_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "attend_in_turn", lambda q, k, v, *_: attention.attend_densely(
        q, k, v, torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    ))
    with pytest.raises(RowFailed, match="differs from float32"):
        attention.compare_attention(bench, "loop")


def test_the_table_has_what_is_asked_of_it() -> None:
    names = [(row.section, row.name) for row in ROWS]
    assert len(set(names)) == len(names)
    for stage in ("pt", "sft", "rm", "dpo", "kto", "ppo", "grpo"):
        for precision in ("bf16", "fp16", "pure_bf16"):
            assert ("stages", f"{stage}, {precision}") in names
    assert sum(section == "memory" for section, _ in names) == 12
    assert 1.2e9 < GPU.large.layers * 60e6 + GPU.large.hidden * GPU.large.vocab < 1.3e9


# -- fp16 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_an_overflow_halves_the_scale_and_skips_the_step(device: str, method: str, tmp_path: Path) -> None:
    found = run_overflow(Bench(TINY, device, tmp_path), f"method={method}")
    assert found["scale after the overflow"] == LARGE_SCALE / 2
    norms = [row["train/grad_norm"] for row in rows(tmp_path / "run") if "train/loss" in row]
    assert [norm is None for norm in norms] == [False, True, False, False]  # infinity is no number of JSON


def test_a_scale_that_is_not_halved_fails_the_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overflow, "on_train_batch_start", lambda *_: None)
    monkeypatch.setattr(Overflow, "on_train_batch_end", lambda self, *_: (
        self.scales.append(LARGE_SCALE), self.changes.append(0.0)
    ))
    with pytest.raises(RowFailed, match="not half"):
        run_overflow(bench)


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_losses_are_those_of_the_cpu(tmp_path: Path) -> None:
    compare_devices(Bench(TINY, "cuda", tmp_path))


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_dpo_run_with_a_frozen_base_trains(tmp_path: Path, method: str) -> None:
    run_stage(Bench(TINY, "cuda", tmp_path), "dpo", "bf16", f"method={method}")


@pytest.mark.parametrize("device", [CUDA, pytest.param("cpu", marks=pytest.mark.matrix)])
def test_a_resumed_run_has_the_losses_of_one_that_went_through(tmp_path: Path, device: str, capfd: Any) -> None:
    words = [f"trainer.accelerator={device}", "precision=bf16", "method=lora", "trainer.max_steps=4"]
    whole = tiny(tmp_path / "whole", *words, "trainer.save_every=2")
    part = tiny(copy_until(whole, tmp_path / "part", 2), *words, "trainer.save_every=2")
    assert "resumed from step-2" in capfd.readouterr().err
    assert losses(part) == pytest.approx(losses(whole), rel=1e-5)


# -- worker, time, report ----------------------------------------------------------------------------------------------


SCRIPT = """
import json, os, sys
for line in sys.stdin:
    if line == "1\\n":
        print("the last words", file=sys.stderr)
        os._exit(3)
    if line == "2\\n":
        sys.stdin.read()
    print(json.dumps({"state": "ok", "numbers": {"process": os.getpid()}}), flush=True)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    made = Worker([sys.executable, "-c", SCRIPT], tmp_path / "log")
    yield made
    made.stop()


def test_a_row_that_ends_its_process_costs_only_itself(worker: Worker) -> None:
    first, again = worker.ask(0, 60), worker.ask(0, 60)
    assert first == again  # one process for both
    ended = worker.ask(1, 60)
    assert ended["state"] == "failed"
    assert "status 3: the last words" in ended["error"]
    assert worker.ask(0, 60)["state"] == "ok"


def test_a_row_that_never_returns_is_given_up(worker: Worker) -> None:
    worker.ask(0, 60)
    assert worker.ask(2, 0.05)["state"] == "late"
    assert worker.ask(0, 60)["state"] == "ok"


def test_rows_after_the_time_are_named() -> None:
    chosen = {n: Row("a", str(n), "") for n in range(3)}
    late = {"state": "late", "error": "no result"}
    found = run_rows(chosen, lambda number, limit: late, 1000, lambda *_: None, longest=150)
    assert [row["state"] for row in found] == ["failed"] * 3
    found = run_rows(chosen, lambda number, limit: late, 100, lambda *_: None, longest=150)
    assert [row["state"] for row in found] == ["not reached"] * 3
    found = run_rows(chosen, lambda number, limit: {"state": "ok"}, 0, lambda *_: None)
    assert summarise(found) == "3 not reached\nNot reached: a: 0; a: 1; a: 2"


def test_a_row_that_fails_is_a_row_with_its_error(bench: Bench) -> None:
    result = run_row(Row("a", "b", "training:run_stage", ("sft", "fp7")), bench)
    assert result["state"] == "failed"
    assert "fp7" in result["error"]
    assert "failed: " in format_tables([{"section": "a", "name": "b", **result}])


@pytest.mark.parametrize("row", [
    row for row in ROWS if row.name in ("qlora, dpo, bf16", "paged_adamw_8bit", "qlora, bf16, 1024, 8", "full, TRL")
], ids=lambda row: row.name)
def test_a_row_without_its_package_is_skipped(row: Row, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    absent = ("bitsandbytes", "trl")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in absent else found(name, *a))
    result = run_row(row, bench)
    assert result["state"] == "skipped"
    assert result["error"].endswith("is not installed")


def test_the_exit_status_and_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    answers = iter([{"state": "ok", "numbers": {"MFU": 0.5}}, {"state": "skipped", "error": "no"}, {"state": "failed"}])
    monkeypatch.setattr(Worker, "ask", lambda *_: next(answers))
    out = tmp_path / "out.json"
    given = ["--cpu", "--out", str(out), "--only"]
    monkeypatch.setenv("FULGURITE_CACHE", "")  # the command sets it; the test puts it back
    assert command.main([*given, "bf16 matrix product"]) == 0
    assert "50.0%" in capsys.readouterr().out
    assert command.main([*given, "planted overflow, full"]) == 0
    assert command.main([*given, "planted overflow, lora"]) == 1
    assert json.loads(out.read_text())["rows"][0]["state"] == "failed"
    assert command.main([*given, "nothing"]) == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main([]) == 2
    assert "--cpu" in capsys.readouterr().err
