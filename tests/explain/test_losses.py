"""The curves of the preference losses: plain arithmetic that is loss/preference.py's, drawn in a terminal and as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from fulgurite.cli.explain import explain_main
from fulgurite.errors import ConfigError
from fulgurite.explain.curves import _shorten, draw_curve, draw_loss, draw_schedule, plot_loss
from fulgurite.explain.losses import LEVEL, compute_course, compute_span, compute_value
from fulgurite.loss import preference
from fulgurite.scheduler.config import Cosine
from fulgurite.stage.preference_table import get_row, list_names

MARGINS = torch.linspace(-3, 3, 61, dtype=torch.float64)
Tensors = Callable[[torch.Tensor, torch.Tensor, float, float, float, float], torch.Tensor]


def on_tensors(loss: str, margin: torch.Tensor, beta: float, smoothing: float, gamma: float, tau: float) -> torch.Tensor:
    """loss/preference.py on the line that explain draws."""
    level = LEVEL if loss == "orpo" else 0.0
    chosen, rejected = level + margin / 2, level - margin / 2
    match loss:
        case "sigmoid" | "robust" | "exo_pair" | "cpo":
            return getattr(preference, loss)(chosen, rejected, beta, smoothing)
        case "aot":
            return preference.aot(margin, torch.zeros_like(margin), beta, smoothing)
        case "discopop":
            return preference.discopop(chosen, rejected, beta, tau)
        case "simpo":
            return preference.simpo(chosen, rejected, beta, gamma, smoothing)
    return getattr(preference, loss)(chosen, rejected, beta)


@pytest.mark.parametrize("loss", list_names())
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_plain_arithmetic_is_the_loss_that_trains(loss: str, scale: float) -> None:
    found = get_row(loss)
    beta, gamma, tau = scale * found.beta, (found.gamma_share or 0) * scale * found.beta, found.tau or 0.05
    smoothing = (found.smoothing or 0.0) if scale == 1 or found.smoothing is None else 0.2
    margins = MARGINS * compute_span(loss, beta) / 3
    expected = on_tensors(loss, margins, beta, smoothing, gamma, tau)
    ours = torch.tensor([compute_value(loss, x, beta, smoothing, gamma, tau) for x in margins.tolist()], dtype=torch.float64)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_curves_stand_where_papers_say() -> None:
    assert compute_value("sigmoid", 0.0, 0.1) == pytest.approx(math.log(2))
    assert compute_value("hinge", 20.0, 0.05) == 0  # nothing is left at a margin of 1 / beta
    margins, values = compute_course("ipo", 2001)
    assert margins[values.index(min(values))] == pytest.approx(5)  # 1 / (2 · beta)
    assert compute_course("sigmoid", beta=1.0)[0][-1] == 4


def test_the_course_takes_what_the_loss_has_by_itself() -> None:
    margins, values = compute_course("simpo", 3)
    assert margins[1] == 0
    assert values[1] == pytest.approx(math.log1p(math.e))  # gamma is half of beta = 2
    assert compute_course("simpo", 3, gamma=0.0)[1][1] == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", list_names())
def test_every_loss_is_drawn(loss: str) -> None:
    drawn = plot_loss(loss, {})
    assert max(map(len, drawn.splitlines())) <= 80
    assert drawn.startswith(f"stage.loss={loss} stage.{get_row(loss).weight}={get_row(loss).beta:g}: ")
    assert ("rises by half" in " ".join(drawn.split())) == get_row(loss).two_sided
    assert ("a token" in " ".join(drawn.split())) == get_row(loss).averaged
    picture = draw_loss(loss)
    assert picture.count("<polyline") == picture.count('class="zero"') == 1
    assert "nan" not in picture


def test_a_picture_has_its_values_from_top_to_bottom() -> None:
    picture = draw_curve([0.0, 1.0], "0", "", "9", "A & B")
    assert 'points="0.0,130.0 260.0,0.0"' in picture
    assert "A &amp; B" in picture
    assert draw_schedule(Cosine).count(",") > 200


@pytest.mark.parametrize(
    ("x", "words"), [(0.0, "0"), (0.1354, "0.135"), (2000.0, "2000"), (8.47e-4, "8.47e-4"), (4.5e6, "4.5e6"), (-40.0, "-40")]
)
def test_numbers_beside_a_picture_are_short(x: float, words: str) -> None:
    assert _shorten(x) == words


def test_the_command_draws_one_loss_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    explain_main(["stage=dpo", "--plot", "--lang", "en"])
    out = capsys.readouterr().out
    assert all(f"stage.loss={loss} " in out for loss in list_names())
    explain_main(["stage=dpo", "stage.loss=ipo", "stage.beta=0.5", "--plot", "--lang", "en"])
    out = capsys.readouterr().out
    assert out.startswith("stage.loss=ipo stage.beta=0.5: ")
    assert out.rstrip().endswith("2")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["stage.loss=dpo"], "stage.loss=dpo is no loss of stage=dpo; there are sigmoid"),
        (["stage.beta=1"], "give stage.loss=... first"),
        (["stage.loss=ipo", "stage.gamma=1"], "stage.gamma is not read here"),
        (["stage.loss=ipo", "stage.beta=0"], "stage.beta=0.0 is not allowed"),
        (["stage.loss=ipo", "stage.beta=x"], "stage.beta=x is not a number"),
        (["stage.loss=exo_pair", "stage.label_smoothing=0"], "take 0.001"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        explain_main(["stage=dpo", *words, "--plot"])
    assert sentence in str(refused.value)
