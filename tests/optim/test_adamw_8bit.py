"""AdamW with 8-bit state against its algorithm written out: codes from a table, a scale for each 256 numbers."""

from __future__ import annotations

import pytest
import torch
from tests.optim.nets import config, made, steps
from torch import Tensor

LR, WD, EPS, (B1, B2) = 0.01, 0.1, 1e-8, (0.9, 0.999)


def scales(values: Tensor) -> Tensor:
    """The largest size in each number's block of 256."""
    flat = torch.nn.functional.pad(values.reshape(-1), (0, -values.numel() % 256)).view(-1, 256)
    return flat.abs().amax(dim=1).repeat_interleave(256)[: values.numel()].view(values.shape)


def rounded(values: Tensor, state: dict[str, Tensor], which: str) -> Tensor:
    """Each number divided by its block's scale, as the nearest value of the table, and multiplied again."""
    if f"qmap{which}" not in state:
        return values
    table = state[f"qmap{which}"]
    return table[(values / scales(values)).unsqueeze(-1).sub(table).abs().argmin(-1)] * scales(values)


def test_adamw_8bit_is_adamw_with_moments_rounded_to_its_table() -> None:
    net, optimizer = made("adamw_8bit")
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    eight = [n for n, p in net.named_parameters() if p.numel() >= 4096]
    assert eight == ["layers.0.weight", "layers.1.weight"]
    moments = {n: (torch.zeros_like(w), torch.zeros_like(w)) for n, w in before.items()}
    for t in range(1, 4):
        steps(net, optimizer, t, t + 1)
        for name, parameter in net.named_parameters():
            w, (m, v), g = before[name], moments[name], parameter.grad
            assert g is not None
            m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
            decay = WD if parameter.ndim == 2 and name != "embed.weight" else 0.0
            step = LR * (m / (1 - B1**t)) / ((v / (1 - B2**t)).sqrt() + EPS)
            torch.testing.assert_close(parameter.detach(), w * (1 - LR * decay) - step, rtol=1e-5, atol=1e-6)
            if name in eight:
                assert optimizer.state[parameter]["state1"].dtype == torch.uint8
            kept = [dequantised(optimizer.state[parameter], k, parameter.shape) for k in ("1", "2")]
            for which, exact, theirs in zip("12", (m, v), kept, strict=True):
                ours = rounded(exact, optimizer.state[parameter], which)
                if name not in eight:
                    torch.testing.assert_close(theirs, exact, rtol=1e-5, atol=1e-8)
                    continue
                # On a CPU bitsandbytes looks the code up in 65536 bins: never further off than the nearest code and
                # a bin's width.
                largest = scales(exact)
                assert ((theirs - exact).abs() <= (ours - exact).abs() + largest * 2**-15).all()
                assert torch.isclose(ours, theirs, rtol=1e-5, atol=0).float().mean() > 0.9
            moments[name] = (kept[0], kept[1])
            before[name] = parameter.detach().clone()


def dequantised(state: dict[str, Tensor], which: str, shape: torch.Size) -> Tensor:
    kept = state[f"state{which}"]
    if kept.dtype != torch.uint8:
        return kept.clone()
    largest = state[f"absmax{which}"].repeat_interleave(256)[: kept.numel()].view(shape)
    return state[f"qmap{which}"][kept.long()] * largest


def test_paged_on_a_cpu_equals_adamw_8bit_and_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    paged, one = made("paged_adamw_8bit")
    assert "optim=paged_adamw_8bit pages nothing on a CPU: the run uses optim=adamw_8bit." in capsys.readouterr().err
    plain, two = made("adamw_8bit")
    assert capsys.readouterr().err == ""
    steps(paged, one, 0, 3)
    steps(plain, two, 0, 3)
    for a, b in zip(paged.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    assert type(config("paged_adamw_8bit")).__name__ == "PagedAdamW8bit"
