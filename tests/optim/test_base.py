"""Each optimizer's step against its formula written out, and what decays. 8-bit, projected and block-wise ones have their own files."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from fulgurite.config.compose import compose
from fulgurite.config.run import Facts, load_options
from fulgurite.config.schema import Option, build, options
from fulgurite.optim.default_lrs import recommend, usual
from fulgurite.optim.param_groups import find_hidden_matrices


class Net(nn.Module):
    """A matrix that decays; an embedding, a norm and a bias that do not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.linear, self.norm = nn.Embedding(7, 4), nn.Linear(4, 3), nn.LayerNorm(3)


def option(*words: str) -> Option:
    config: Option = compose(["model=tiny", *words]).run.optim
    return config


def stepped(*words: str, steps: int = 3) -> tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]]:
    """The weights after each step under fixed gradients, and those gradients."""
    net = Net()
    optimizer = build(option(*words), net)
    generator = torch.Generator().manual_seed(2)
    weights = {n: [p.detach().clone()] for n, p in net.named_parameters()}
    gradients: dict[str, list[torch.Tensor]] = {n: [] for n in weights}
    for _ in range(steps):
        for name, parameter in net.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradients[name].append(parameter.grad.clone())
        optimizer.step()
        for name, parameter in net.named_parameters():
            weights[name].append(parameter.detach().clone())
    return weights, gradients


def test_every_optimizer_is_in_this_file() -> None:
    load_options()
    assert sorted(options("optim")) == [
        "adafactor", "adam_mini", "adamw", "adamw_8bit", "apollo", "badam", "galore", "lion", "muon", "paged_adamw_8bit",
        "schedule_free", "sgd",
    ]


def test_adamw_is_the_papers_formula() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    knobs = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.eps={eps}", f"optim.betas=[{b1},{b2}]"]
    weights, gradients = stepped("optim=adamw", *knobs)
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), torch.zeros_like(path[0])
        decay = wd if name == "linear.weight" else 0.0  # never norms, biases or embeddings
        for t, g in enumerate(gradients[name], 1):
            w = w - lr * decay * w
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            w = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_sgd_is_heavy_ball() -> None:
    lr, momentum, wd = 0.05, 0.7, 0.2
    weights, gradients = stepped("optim=sgd", f"optim.lr={lr}", f"optim.momentum={momentum}", f"optim.weight_decay={wd}")
    for name, path in weights.items():
        w, buffer = path[0].clone(), torch.zeros_like(path[0])
        decay = wd if name == "linear.weight" else 0.0
        for t, g in enumerate(gradients[name], 1):
            whole = g + decay * w
            buffer = whole if t == 1 else momentum * buffer + whole
            w = w - lr * buffer
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_adafactor_is_the_papers_formula() -> None:
    lr, wd, decay, threshold, floor = 0.02, 0.1, -0.7, 1.0, 1e-3
    words = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.beta2_decay={decay}", f"optim.clip_threshold={threshold}"]
    weights, gradients = stepped("optim=adafactor", *words)
    for name, path in weights.items():
        w, row, column, variance = path[0].clone(), 0.0, 0.0, 0.0
        for t, g in enumerate(gradients[name], 1):
            share = t**decay  # 1 - beta2 at step t
            size = max(floor, float(w.pow(2).mean().sqrt())) * min(lr, t**-0.5)
            w = w * (1 - lr * (wd if name == "linear.weight" else 0.0))
            if g.ndim > 1:
                row = (1 - share) * row + share * g.pow(2).mean(-1, keepdim=True)
                column = (1 - share) * column + share * g.pow(2).mean(-2, keepdim=True)
                estimate = row @ column / row.mean()
            else:
                variance = (1 - share) * variance + share * g.pow(2)
                estimate = variance
            update = g / estimate.sqrt()
            w = w - size * update / max(1.0, float(update.pow(2).mean().sqrt()) / threshold)
            torch.testing.assert_close(path[t], w, rtol=1e-4, atol=1e-6)


def test_lion_is_the_papers_formula() -> None:
    lr, wd, (b1, b2) = 0.01, 0.3, (0.85, 0.97)
    weights, gradients = stepped("optim=lion", f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.betas=[{b1},{b2}]")
    for name, path in weights.items():
        w, m = path[0].clone(), torch.zeros_like(path[0])
        for t, g in enumerate(gradients[name], 1):
            direction = torch.sign(b1 * m + (1 - b1) * g)
            w = w - lr * (direction + (wd if name == "linear.weight" else 0.0) * w)
            m = b2 * m + (1 - b2) * g
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def orthogonal(m: torch.Tensor, steps: int) -> torch.Tensor:
    """Newton-Schulz with Jordan's coefficients, in bf16 as his code and torch have it."""
    x = m.bfloat16() if m.shape[0] <= m.shape[1] else m.bfloat16().T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x if m.shape[0] <= m.shape[1] else x.T


@pytest.mark.parametrize("scale", ["rms", "own"])
def test_muon_steps_matrices_and_adamw_the_rest_at_its_own_rate(scale: str) -> None:
    lr, adam_lr, wd, momentum, eps, (b1, b2) = 0.02, 0.003, 0.1, 0.9, 1e-6, (0.8, 0.95)
    words = [f"optim.lr={lr}", f"optim.adam_lr={adam_lr}", f"optim.weight_decay={wd}", f"optim.momentum={momentum}", f"optim.eps={eps}"]
    weights, gradients = stepped("optim=muon", *words, f"optim.betas=[{b1},{b2}]", f"optim.scale={scale}",
        "optim.ns_steps=4")
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), torch.zeros_like(path[0])
        for t, g in enumerate(gradients[name], 1):
            if name == "linear.weight":  # 3 rows, 4 columns
                m = momentum * m + (1 - momentum) * g
                update = orthogonal((1 - momentum) * g + momentum * m, 4).float()
                size = 0.2 * math.sqrt(4) if scale == "rms" else 1.0  # own: the root of max(1, rows / columns)
                w = w - lr * wd * w - lr * size * update
                torch.testing.assert_close(path[t], w, rtol=0, atol=2e-4)  # bf16 inside: 8 bits of an entry below 1, times lr
            else:
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
                w = w - adam_lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
                torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_what_muon_calls_a_matrix_inside_the_model() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    small = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**small, tie_word_embeddings=False))
    names = {name for name, p in model.named_parameters() if id(p) in find_hidden_matrices(model)}
    assert names == {
        f"model.layers.0.{part}.weight" for part in (
            "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"
        )
    }
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")  # peft asks by the old name
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert {name for name, p in adapted.named_parameters() if id(p) in find_hidden_matrices(adapted) and "lora_" in name} == set()


def test_adam_mini_keeps_one_variance_a_row() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    knobs = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.eps={eps}", f"optim.betas=[{b1},{b2}]"]
    weights, gradients = stepped("optim=adam_mini", *knobs)
    for name, path in weights.items():
        w, m, v = path[0].clone(), torch.zeros_like(path[0]), 0.0
        for t, g in enumerate(gradients[name], 1):
            w = w - lr * (wd if name == "linear.weight" else 0.0) * w
            squares = (g * g).mean(dim=1)[:, None] if g.ndim == 2 else (g * g).mean()
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * squares
            w = w - lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + eps)
            torch.testing.assert_close(path[t], w, rtol=1e-5, atol=1e-7)


def test_schedule_free_is_the_papers_formula_and_what_is_judged_is_its_average() -> None:
    lr, wd, eps, (b1, b2) = 0.01, 0.1, 1e-6, (0.8, 0.95)
    net = Net()
    words = [f"optim.lr={lr}", f"optim.weight_decay={wd}", f"optim.eps={eps}", f"optim.betas=[{b1},{b2}]", "scheduler=constant"]
    optimizer = build(option("optim=schedule_free", *words), net)
    generator = torch.Generator().manual_seed(2)
    paths = {n: (p.detach().clone(), p.detach().clone(), torch.zeros_like(p)) for n, p in net.named_parameters()}  # x, z, v
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


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.linear.requires_grad_(False)
    known = {id(p) for g in build(option("optim.lr=0.1"), net).param_groups for p in g["params"]}
    assert known == {id(p) for p in net.parameters() if p.requires_grad}


def test_rates_lie_inside_what_is_usual_for_their_row() -> None:
    for stage in ("pt", "sft"):
        for method in ("full", "lora"):
            for model in ("model=tiny", "model=hf"):
                run = compose([f"stage={stage}", f"method={method}", model]).run
                derived = recommend(run, Facts())
                assert usual(run).holds(derived.value), (stage, method, model)
                assert math.isclose(run.optim.lr, derived.value)
                assert derived.reason
