"""Which names make a block, and which block is active at a step."""

from __future__ import annotations

from fulgurite.optim.block_schedule import Order, build_blocks, get_active_block


def test_blocks_are_embeddings_layers_and_head() -> None:
    tied = {
        "m.embed.weight": 2,
        "m.layers.0.q.weight": 2,
        "m.layers.0.norm.weight": 1,
        "m.layers.1.q.weight": 2,
        "m.norm.weight": 1,
    }
    assert build_blocks(tied) == [
        ["m.embed.weight"], ["m.layers.0.q.weight", "m.layers.0.norm.weight"], ["m.layers.1.q.weight", "m.norm.weight"],
    ]
    assert build_blocks({**tied, "head.weight": 2})[2:] == [["m.layers.1.q.weight"], ["m.norm.weight", "head.weight"]]
    assert build_blocks({"w": 2, "b": 1}) == [["w", "b"]]
    assert build_blocks({"layers.3.w": 2}) == [["layers.3.w"]]


def test_active_block_ascends_descends_or_is_drawn_anew_each_round() -> None:
    assert [get_active_block(step, 2, 3, Order.ascending) for step in range(8)] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert [get_active_block(step, 2, 3, Order.descending) for step in range(8)] == [2, 2, 1, 1, 0, 0, 2, 2]
    drawn = [get_active_block(step, 1, 5, Order.random) for step in range(50)]
    assert all(sorted(drawn[k : k + 5]) == [0, 1, 2, 3, 4] for k in range(0, 50, 5))
    assert len({tuple(drawn[k : k + 5]) for k in range(0, 50, 5)}) > 5
    assert drawn == [get_active_block(step, 1, 5, Order.random) for step in range(50)]
