"""What a run would be on: the limits of a container, folders that do not exist yet, and this machine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import psutil

from fulgurite.explain.knob_index import build_default_run
from fulgurite.plan.hardware import detect_machine, find_existing, read_container_limits


def test_limit_of_a_container_is_that_of_the_machine(tmp_path: Path) -> None:
    assert read_container_limits(tmp_path, 100) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("10\n")
    assert read_container_limits(tmp_path, 100) == []
    (tmp_path / "memory.max").write_text("60\n")
    assert read_container_limits(tmp_path, 100) == [(50, 60)]
    assert read_container_limits(tmp_path, 50) == []


def test_limit_of_the_first_version_of_cgroups_counts_too(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("40\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("55\n")
    # more is used than the limit allows: nothing is free, and not less than nothing
    assert read_container_limits(tmp_path, 100) == [(0, 40)]


def test_disk_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert find_existing(tmp_path / "runs" / "new") == tmp_path
    (tmp_path / "file").write_text("")
    assert find_existing(tmp_path / "file" / "new") == tmp_path
    assert find_existing(tmp_path) == tmp_path


def test_cpu_has_the_free_memory_of_the_machine_at_most(tmp_path: Path) -> None:
    run = build_default_run()
    run = replace(run, trainer=replace(run.trainer, accelerator="cpu"))
    found = detect_machine(run.trainer, run.world_size, tmp_path / "run")
    assert found.device == "cpu"
    assert 0 < found.memory_free <= found.memory_total <= psutil.virtual_memory().total
    assert abs(found.disk_free - shutil.disk_usage(tmp_path).free) < 1e9
    assert (found.processes, found.cores >= 1) == (1, True)
