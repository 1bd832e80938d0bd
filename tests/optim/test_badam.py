"""BAdam: each visit against AdamW on that block alone, and what rests."""

from __future__ import annotations

from pathlib import Path

import torch
from tests.end_to_end.runs import rows
from tests.optim.nets import made, steps
from tests.optim.whole_runs import Gradients, train


def test_each_visit_is_adamw_on_one_block_with_fresh_state() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-8, (0.9, 0.999)
    net, optimizer = made("badam")  # two steps a visit
    names = [
        [n for n, _ in net.named_parameters() if n.startswith(start)]
        for start in ("embed", "layers.0", "layers.1", ("norm", "head"))
    ]
    expected = {n: p.detach().clone() for n, p in net.named_parameters()}
    moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for step in range(10):
        active = names[step // 2 % 4]
        resting = {id(p) for p in optimizer.resting(step)}  # type: ignore[attr-defined]
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


def test_badams_resting_blocks_get_no_gradient_and_the_norm_is_the_active_blocks(tmp_path: Path) -> None:
    look = Gradients()
    folder = train(
        tmp_path,
        "optim=badam",
        "method=full",
        "optim.lr=1e-2",
        "optim.switch_every=1",
        "trainer.max_steps=4",
        look=look,
    )
    layers = [{n.split("layers.")[1][0] if "layers." in n else n for n in names} for names in look.seen]
    assert layers[0] == {"model.model.embed_tokens.weight"}
    assert layers[1] == {"0"}
    assert {"1", "model.model.norm.weight"} >= layers[2] > set()
    assert all(row["train/grad_norm"] > 0 for row in rows(folder) if "train/grad_norm" in row)
