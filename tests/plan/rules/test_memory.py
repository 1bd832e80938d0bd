"""The rules of memory.py: the memory of the device and the disk for checkpoints."""

from __future__ import annotations

import pytest
from tests.plan.rules.cases import GB, Case, check_complete, check_found, check_not_found, describe, free, memory

from fulgurite.plan.context import Cheaper, Disk, Machine

SHORT_OF_MEMORY = {
    "memory": memory(20),
    "machine": free(10),
    "cheaper": [
        Cheaper("trainer.micro_batch_size=1", 15 * GB), Cheaper("method=lora", 7 * GB),
        Cheaper("method=qlora", 4 * GB),
    ],
}
TOO_LARGE = {
    "memory": memory(90),
    "machine": free(10),
    "cheaper": [
        Cheaper("method=lora", 60 * GB), Cheaper("method=qlora trainer.micro_batch_size=1", 30 * GB),
    ],
}
FOUND = [
    Case(
        "memory.train", "trainer.micro_batch_size=8", {"memory": memory(9.6), "machine": free(10)}, "error",
        "Training needs about 9.6 GB on a GPU (weights 1 GB, activations 8.6 GB); 10 GB are free.",
        "trainer.micro_batch_size=4",
    ),
    Case(
        "memory.train", "trainer.micro_batch_size=1", {"memory": memory(8.1), "machine": free(10)}, "warning", "8.1 GB",
        "trainer.gradient_checkpointing=true",
    ),
    Case(
        "memory.train", "trainer.micro_batch_size=1", {"memory": memory(2, 9), "machine": free(10)}, "warning",
        "Evaluation needs about 9 GB",
    ),
    Case(
        "memory.train", "stage=grpo stage.reward=[length:50]", {"memory": memory(2, 1, 9), "machine": free(10)},
        "warning", "A rollout needs", "stage.rollout_batch=32",
    ),
    Case(
        "memory.train", "method=full", SHORT_OF_MEMORY, "error",
        "with trainer.micro_batch_size=1 it is 15 GB; with method=lora it is 7 GB", "method=lora",
    ),
    Case(
        "memory.eval", "trainer.micro_batch_size=512", {"machine": free(10)}, "note",
        "Evaluation keeps no logits; all of a micro-batch would be 51.5 GB",
    ),
    Case(
        "memory.replicas", "trainer.devices=2 method=full", {"memory": memory(6), "machine": free(10, device="cpu")},
        "warning", "a whole copy in each of 2 processes: 6 GB each, 12 GB together; 10 GB are free", "method=lora",
    ),
    Case(
        "disk.checkpoints", "method=full", {"disk": Disk(2 * GB, 4, 8 * GB), "machine": Machine(disk_free=8 * GB)},
        "error", "4 checkpoints of 2 GB need 8 GB", "trainer.keep_checkpoints=1",
    ),
    Case(
        "disk.checkpoints", "method=full trainer.keep_checkpoints=1",
        {"disk": Disk(2 * GB, 3, 6 * GB), "machine": Machine(disk_free=11 * GB)}, "warning", "11 GB are free",
        "method=lora",
    ),
    Case(
        "device.nothing-fits", "method=full", TOO_LARGE, "error",
        "Nothing fits: the smallest plan (method=qlora trainer.micro_batch_size=1) needs 30 GB, and 10 GB are free on "
        "a GPU",
    ),
]
NOT_FOUND = [
    Case("memory.train", "", {"memory": memory(8), "machine": free(10)}),
    Case("memory.train", "", {"machine": free(10)}),
    # device.nothing-fits reports this one
    Case(
        "memory.train", "", {"memory": memory(90), "machine": free(10), "cheaper": [Cheaper("method=qlora", 30 * GB)]},
    ),
    Case("memory.eval", "trainer.micro_batch_size=8", {"machine": free(10)}),
    Case("memory.replicas", "", {"memory": memory(6), "machine": free(10, device="cpu")}),
    Case("memory.replicas", "trainer.devices=2", {"memory": memory(3.9), "machine": free(10, device="cpu")}),
    Case("disk.checkpoints", "", {"disk": Disk(GB, 4, 4 * GB), "machine": Machine(disk_free=8 * GB)}),
    Case("disk.checkpoints"),
    Case(
        "device.nothing-fits", "",
        {"memory": memory(20), "machine": free(10), "cheaper": [Cheaper("method=lora", 9 * GB)]},
    ),
    Case("device.nothing-fits", "", {"memory": memory(20), "machine": free(10)}),
]


def test_every_rule_has_cases() -> None:
    check_complete("memory", FOUND, NOT_FOUND)


@pytest.mark.parametrize("case", FOUND, ids=describe)
def test_rule_finds_the_trouble_and_its_remedy_mends_it(case: Case) -> None:
    check_found(case)


@pytest.mark.parametrize("case", NOT_FOUND, ids=describe)
def test_rule_finds_nothing_in_a_sound_run(case: Case) -> None:
    check_not_found(case)
