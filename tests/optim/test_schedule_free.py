"""Schedule-free AdamW: its formula, and the average that is evaluated and saved in place of what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from tests.end_to_end.runs import losses, weights
from tests.optim.formula_net import Net, compose_optim
from tests.optim.whole_runs import train

from fulgurite.config.schema import build


def test_schedule_free_equals_the_papers_formula_and_averaged_holds_its_average() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    net = Net()
    words = [
        f"optim.lr={lr}",
        f"optim.weight_decay={wd}",
        f"optim.eps={eps}",
        f"optim.betas=[{b1},{b2}]",
        "scheduler=constant",
    ]
    optimizer = build(compose_optim("optim=schedule_free", *words), net)
    generator = torch.Generator().manual_seed(2)
    paths = {
        n: (p.detach().clone(), p.detach().clone(), torch.zeros_like(p)) for n, p in net.named_parameters()
    }  # x, z, v
    for t in range(1, 6):
        for name, parameter in net.named_parameters():
            x, z, v = paths[name]
            y = (1 - b1) * z + b1 * x
            torch.testing.assert_close(parameter.detach(), y, rtol=1e-5, atol=1e-6)
            g = torch.randn(parameter.shape, generator=generator)
            parameter.grad = g.clone()  # the library divides the gradient in place
            v = b2 * v + (1 - b2) * g * g
            z = z - lr * (g / ((v / (1 - b2**t)).sqrt() + eps) + (wd if name == "linear.weight" else 0.0) * y)
            paths[name] = (1 - 1 / t) * x + z / t, z, v  # at a constant rate the weights of the average are equal
        optimizer.step()
        trained = [p.detach().clone() for p in net.parameters()]
        with optimizer.averaged(), optimizer.averaged():
            for name, parameter in net.named_parameters():
                torch.testing.assert_close(parameter.detach(), paths[name][0], rtol=1e-5, atol=1e-6)
            assert any(not torch.equal(a, b) for a, b in zip(trained, net.parameters(), strict=True)) == (t > 1)
        assert all(torch.equal(a, b) for a, b in zip(trained, net.parameters(), strict=True))


def test_evaluations_do_not_change_schedule_frees_training_by_a_bit(tmp_path: Path) -> None:
    words = ["optim=schedule_free", "method=full", "optim.lr=2e-2"]
    often = train(tmp_path / "often", *words, "trainer.eval_every=1")
    never = train(tmp_path / "never", *words, "trainer.eval_every=9")
    assert losses(often) == losses(never)
    assert all(torch.equal(t, weights(never)[name]) for name, t in weights(often).items())


def test_schedule_free_saves_and_evaluates_the_average(tmp_path: Path) -> None:
    folder = train(tmp_path, "optim=schedule_free", "method=full", "optim.lr=2e-2")
    last = folder / "checkpoints" / "last"
    x, state = load_file(last / "weights.safetensors"), load_file(last / "optimizer.safetensors")
    trained = {n: t for n, t in state.items() if n.endswith(".y")}
    assert len(trained) == len(x)
    moved = 0
    for name, y in trained.items():
        average = torch.lerp(y, state[name.removesuffix(".y") + ".z"], 1 - 1 / 0.9)
        match = [n for n, t in x.items() if t.shape == average.shape and torch.equal(t, average)]
        assert match, name
        moved += not torch.equal(average, y)
    assert moved == len(x)
    from fulgurite.export.model import load_run  # as export and chat read it

    live = dict(load_run(folder, "last").model.named_parameters())
    assert all(torch.equal(live[name.removeprefix("model.")], tensor) for name, tensor in x.items())


class Averaged(Callback):  # type: ignore[misc]
    """Sees whether the model holds the average wherever it is judged, and what is trained wherever it learns."""

    def __init__(self) -> None:
        self.judged: list[bool] = []
        self.trained: list[bool] = []

    def holds(self, trainer: Any) -> bool:
        return all(torch.equal(p, x) for p, x in trainer.optimizers[0].averages())

    def on_validation_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.judged.append(self.holds(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        with pl_module.inference_context():
            self.judged.append(self.holds(trainer))
        self.judged.append(self.holds(trainer))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        with pl_module.inference_context():
            self.judged.append(self.holds(trainer))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.trained.append(self.holds(trainer))


def test_schedule_free_evaluates_its_average_and_trains_the_other(tmp_path: Path) -> None:
    look = Averaged()
    train(tmp_path, "optim=schedule_free", "method=full", "optim.lr=2e-2", look=look)
    assert len(look.judged) > 9
    assert all(look.judged)
    # step 1 has a rate of 0 in this warmup, so step 2's weights are the first that count, and the average is they alone
    assert look.trained == [True] * 3 + [False] * 6
