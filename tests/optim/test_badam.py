"""BAdam: which block is trained when, against AdamW on that block alone, and what rests."""

from __future__ import annotations

import torch
from tests.optim.nets import config, made, steps

from fulgurite.optim.block_schedule import Order, build_blocks, get_active_block
from fulgurite.optim.param_groups import find_hidden_matrices


def test_blocks_are_embeddings_layers_and_head() -> None:
    tied = {"m.embed.weight": 2, "m.layers.0.q.weight": 2, "m.layers.0.norm.weight": 1, "m.layers.1.q.weight": 2, "m.norm.weight": 1}
    assert build_blocks(tied) == [
        ["m.embed.weight"], ["m.layers.0.q.weight", "m.layers.0.norm.weight"], ["m.layers.1.q.weight", "m.norm.weight"],
    ]
    assert build_blocks({**tied, "head.weight": 2})[2:] == [["m.layers.1.q.weight"], ["m.norm.weight", "head.weight"]]
    assert build_blocks({"w": 2, "b": 1}) == [["w", "b"]]
    assert build_blocks({"layers.3.w": 2}) == [["layers.3.w"]]


def test_turns() -> None:
    assert [get_active_block(step, 2, 3, Order.ascending) for step in range(8)] == [0, 0, 1, 1, 2, 2, 0, 0]
    assert [get_active_block(step, 2, 3, Order.descending) for step in range(8)] == [2, 2, 1, 1, 0, 0, 2, 2]
    drawn = [get_active_block(step, 1, 5, Order.random) for step in range(50)]
    assert all(sorted(drawn[k : k + 5]) == [0, 1, 2, 3, 4] for k in range(0, 50, 5))
    assert len({tuple(drawn[k : k + 5]) for k in range(0, 50, 5)}) > 5
    assert drawn == [get_active_block(step, 1, 5, Order.random) for step in range(50)]


def test_each_visit_is_adamw_on_one_block_with_fresh_state() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-8, (0.9, 0.999)
    net, optimizer = made("badam")  # two steps a visit
    names = [[n for n, _ in net.named_parameters() if n.startswith(start)] for start in ("embed", "layers.0", "layers.1", ("norm", "head"))]
    expected = {n: p.detach().clone() for n, p in net.named_parameters()}
    moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for step in range(10):
        active = names[step // 2 % 4]
        resting = {id(p) for p in optimizer.resting(step)}
        assert {n for n, p in net.named_parameters() if id(p) not in resting} == set(active)
        steps(net, optimizer, step, step + 1)
        for name, parameter in net.named_parameters():
            if name in active:
                g, t = parameter.grad, step % 2 + 1
                m, v = (torch.zeros_like(g), torch.zeros_like(g)) if t == 1 else moments[name]
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
                moments[name] = m, v
                w = expected[name] * (1 - lr * (wd if parameter.ndim == 2 and name != "embed.weight" else 0.0))
                expected[name] = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
                torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-7)
                expected[name] = parameter.detach().clone()
            else:
                assert torch.equal(parameter.detach(), expected[name])
                assert parameter.grad is None
        assert {id(p) for p in optimizer.state} == {id(p) for n, p in net.named_parameters() if n in active}


def test_the_declared_total_is_that_of_the_largest_block() -> None:
    net, _ = made("badam")
    shapes = {n: tuple(p.shape) for n, p in net.named_parameters()}
    inside = {n for n, p in net.named_parameters() if id(p) in find_hidden_matrices(net)}
    # the layers: 64 x 80 weights, and 80 or 64 biases; two fp32 moments and a count for each of the two tensors
    assert config("badam").total_state_bytes(shapes, 4, inside) == 2 * 4 * (64 * 80 + 80) + 2 * 4
