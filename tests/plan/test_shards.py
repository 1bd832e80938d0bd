"""The share of a process: equal to what FSDP2 allocates in a group of processes of which only one exists."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.conftest import cells
from tests.plan.tiny import compose_tiny
from torch import nn
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForCausalLM, LlamaConfig

from fulgurite.config.compose import compose
from fulgurite.method.modules import get_decoder_layers
from fulgurite.plan.context import ModelFacts, Weights
from fulgurite.plan.memory import count_gradients, count_state
from fulgurite.plan.shards import (
    Sharding,
    count_gathered,
    count_rows,
    find_division,
    find_sharding,
    take_padded_share,
    take_share,
)
from fulgurite.run.load import apply_method, load_start

IDS = torch.arange(16).reshape(2, 8)


@contextlib.contextmanager
def fake_mesh(ranks: int, rank: int) -> Iterator[Any]:
    """The mesh of a group of `ranks` processes of which only this one exists."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    try:
        yield init_device_mesh("cpu", (ranks,))
    finally:
        torch.distributed.destroy_process_group()


def shard(model: nn.Module, mesh: Any, reshard: bool = True) -> nn.Module:
    """Divides a model as strategy=fsdp does: each layer, and the rest of it."""
    for layer in get_decoder_layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard)
    fully_shard(model, mesh=mesh, reshard_after_forward=None if reshard else False)
    return model


def build_tiny(*words: str) -> tuple[Any, ModelFacts, Any]:
    """A run, its facts and its model, with random weights."""
    composed, dtypes, facts = compose_tiny(*words, "precision=fp32")
    run = composed.run
    loaded = load_start(run.model, run.method, run.stage.gives_rewards, dtypes)
    return run, facts, apply_method(run.method, run.stage.gives_rewards, loaded, dtypes)


def count_allocated(tensors: Any) -> int:
    """The bytes of the storages of DTensors, each once."""
    storages = [tensor.to_local().untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def make_state(model: nn.Module) -> int:
    """The bytes of AdamW's state after a step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], foreach=False)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values()]
    return sum(t.to_local().nbytes if hasattr(t, "to_local") else t.nbytes for t in held)


METHODS = ("method=full", "method=lora", "method=qlora", "stage=rm method=full")


@pytest.mark.parametrize(("words", "ranks"), cells(METHODS, (3, 64, 2, 8)))
def test_a_process_holds_what_fsdp2_allocates(words: str, ranks: int) -> None:
    """The first process and the last, which holds the fewest rows: weights, gradients and optimizer state."""
    for rank in (0, ranks - 1):
        run, facts, model = build_tiny(*words.split())
        padded, own = take_padded_share(facts, ranks), take_share(facts, ranks, rank)
        whole = sum(find_division(t).whole for t in facts.tensors)  # the scales of four bits, which no parameter has
        with fake_mesh(ranks, rank) as mesh:
            shard(model, mesh)
            assert sum(t.bytes for t in padded.tensors) - whole == count_allocated(model.parameters())
            held = sum(p.to_local().nbytes for p in model.parameters())
            assert sum(t.bytes for t in own.tensors) - whole == held
            if run.stage.gives_rewards:  # its last row, of one, is in the first process alone
                assert count_rows(1, ranks, rank) == (rank == 0)
                continue
            model(input_ids=IDS, use_cache=False).logits.sum().backward()
            gradients = [p.grad for p in model.parameters() if p.requires_grad]
            assert count_gradients(padded) == count_allocated(gradients)
            assert count_state(run.optim, run.precision, own) == make_state(model)


@pytest.mark.parametrize("reshard", [True, False])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_gathered_bytes_are_at_least_what_torch_counts(method: str, reshard: bool) -> None:
    """torch's own tracker: gathered weights, gradients before they are divided, and buffers of the collectives."""
    _, facts, model = build_tiny(f"method={method}", "model.layers=6")
    with fake_mesh(64, 0) as mesh:
        shard(model, mesh, reshard)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], foreach=False)
        tracker = FSDPMemTracker(model, optimizer)
        tracker.track_inputs((IDS,))
        with tracker:
            model(input_ids=IDS, use_cache=False).logits.sum().backward()
    [peak] = tracker.get_tracker_snapshot("peak").values()
    names = {"Unsharded Param", "Unsharded Grad", "Temp", "All Gather", "Reduce Scatter"}
    counted = sum(count for kind, count in peak.items() if getattr(kind, "value", kind) in names)
    expected = count_gathered(facts, Sharding(64, reshard), 4)
    assert 0.6 * expected < counted <= expected


def test_8_billion_parameters_on_64_processes() -> None:
    """No weight is made: on the meta device the whole of it takes two seconds."""
    shape = LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_key_value_heads=8,
        num_attention_heads=32, tie_word_embeddings=False,
    )
    for ranks, rank in ((64, 63), (24, 23)):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
        tensors = [Weights(name, tuple(p.shape), True, bytes=p.nbytes) for name, p in model.named_parameters()]
        facts = ModelFacts(tensors=tensors, layers=32)
        assert sum(t.bytes for t in tensors) == 16_060_522_496
        with fake_mesh(ranks, rank) as mesh:
            shard(model, mesh)
            parts = [p.to_local() for p in model.parameters()]
        assert sum(t.bytes for t in take_share(facts, ranks, rank).tensors) == sum(part.nbytes for part in parts)
        padded = sum(t.bytes for t in take_padded_share(facts, ranks).tensors)
        assert padded == sum(part.untyped_storage().nbytes() for part in parts)
        assert padded == {64: 250_945_664, 24: 670_193_366}[ranks]


def test_ranks_beyond_the_rows_hold_nothing() -> None:
    assert [count_rows(5, 4, rank) for rank in range(4)] == [2, 2, 1, 0]
    assert [count_rows(8, 4, rank) for rank in range(4)] == [2, 2, 2, 2]
    assert [count_rows(1, 3, rank) for rank in range(3)] == [1, 0, 0]


def test_a_scalar_is_not_divided_and_four_bits_are_a_column_of_bytes() -> None:
    assert find_division(Weights("a", (), True, bytes=4)).whole == 4
    packed = find_division(Weights("b", (32, 64), False, bytes=1024 + 32 + 4))
    assert (packed.rows, packed.row_bytes, packed.whole) == (1024, 1, 36)


def test_a_strategy_that_replicates_divides_nothing() -> None:
    run = compose(["strategy=ddp", "trainer.devices=8"]).run
    assert find_sharding(run.strategy, run.world_size) is None
