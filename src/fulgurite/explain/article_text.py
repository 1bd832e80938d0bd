"""The statements of LLaMA-Factory's article, heading by heading, beside the declarations and measurements.

The numbers in the sentences are read from the declarations; a test compares each verdict with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fulgurite.config.schema import Range, list_knobs, list_options
from fulgurite.explain.bytes_per_weight import count_frozen_bytes, count_gradient_bytes, count_state_bytes
from fulgurite.explain.decision_table import build_sized_run, find_setting
from fulgurite.explain.layout import format_usual, format_value
from fulgurite.explain.page_parts import join_sentences
from fulgurite.explain.pages import get_doc
from fulgurite.language import UserMessage, message
from fulgurite.precision.config import WIDTH
from fulgurite.scheduler.equivalence import build_curve

LARGE, SMALL = 7.6, 0.135
"""The sizes in billions of parameters that the verdicts name."""
SQUARE = (1024, 1024)


@dataclass(frozen=True, slots=True)
class ArticleBlock:
    """A part of the article: `head` is a heading, `rows` a table with its `columns`, `text` a paragraph."""

    text: str = ""
    head: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figure: str = ""


def head(words: UserMessage) -> ArticleBlock:
    """Returns a heading."""
    return ArticleBlock(head=str(words))


def text(*sentences: UserMessage) -> ArticleBlock:
    """Returns a paragraph."""
    return ArticleBlock(text=join_sentences(sentences))


def get_rate(stage: str, method: str, billions: float = LARGE) -> float:
    """Returns the learning rate that the declarations derive."""
    return float(find_setting(stage, method, billions, "optim.lr").value)


def get_usual_rate(stage: str, method: str, billions: float = LARGE) -> Range:
    """Returns the usual range of the learning rate."""
    found = find_setting(stage, method, billions, "optim.lr").usual
    assert isinstance(found, Range)
    return found


def list_methods() -> list[ArticleBlock]:
    """Returns the section on fine-tuning methods."""
    rows = (
        ("full", message("trains every parameter"), message("Right. {doc}", doc=_get_method_doc("full"))),
        ("freeze", message("freezes most layers and trains some"),
         message("Right. It is not the method with the least memory: `method=lora` and `method=qlora` need less.")),
        ("LOFA", message("freezes some layers and trains others"),
         message(
             "The name is LoRA, and it is something else: the whole model is frozen, and small matrices are added to "
             "it and trained (https://arxiv.org/abs/2106.09685). The mixture that is described is `method=layerwise`."
         )),
        ("QLoRA", message("LoRA with quantization"),
         message("Right: the frozen base is stored in four bits, about {bytes} bytes a weight in place of {plain}.",
                 **_compare_base())),
    )
    return [
        head(message("Fine-tuning methods")),
        _tabulate((message("name"), message("the article"), message("verdict")), rows),
    ]


def _get_method_doc(name: str) -> str:
    return get_doc(list_options("method")[name])


def _compare_base() -> dict[str, str]:
    """Returns the bytes of a frozen weight under QLoRA and under LoRA in bf16."""
    precision: Any = list_options("precision")["bf16"]()
    methods: list[Any] = [list_options("method")[name]() for name in ("qlora", "lora")]
    found = [count_frozen_bytes(method, precision, SQUARE) / (SQUARE[0] * SQUARE[1]) for method in methods]
    return {"bytes": f"{found[0]:.2g}", "plain": f"{found[1]:g}"}


def list_stages() -> list[ArticleBlock]:
    """Returns the section on training stages."""
    rows = (
        ("PT", message("pre-training on much text"),
         message("A stage, `stage=pt`: every token of running text is learned.")),
        ("SFT", message("supervised fine-tuning"), message("Right, and the first step in doubt: `stage=sft`.")),
        ("RM", message("trains a reward model"),
         message("Right: `stage=rm`. Needed only to rank answers or to run PPO.")),
        ("PPO", message("the usual step after the reward model"),
         message(
             "It is the last resort: four models in memory and the most parameters to get wrong. DPO does without a "
             "reward model; GRPO does without a value model."
         )),
        ("DPO", message("Differential Privacy Optimization"),
         message(
             "Wrong: Direct Preference Optimization (https://arxiv.org/abs/2305.18290) learns from pairs which answer "
             "is better. It protects no privacy; `privacy=dp_sgd` does (https://arxiv.org/abs/1607.00133)."
         )),
    )
    return [
        head(message("Training stages")),
        _tabulate((message("name"), message("the article"), message("verdict")), rows),
        text(message("The order: PT if there is much text of the domain, then SFT, then DPO, KTO or GRPO.")),
    ]


RATES = (5e-5, 1e-6, 1e-3, 1e-4, 5e-4, 1e-5, 1e-7)
"""The article's seven learning rates, in its order."""
COLUMNS = (("sft", "lora"), ("sft", "full"), ("dpo", "lora"), ("dpo", "full"), ("grpo", "lora"))
"""The stages and methods against which they are judged."""


def judge_rate(rate: float, usual: Range) -> UserMessage:
    """Returns whether a rate is usual, and else by what factor it is outside."""
    assert usual.low is not None
    assert usual.high is not None
    if rate < usual.low:
        return message("{times} × too low", times=_round_factor(usual.low / rate))
    if rate > usual.high:
        return message("{times} × too high", times=_round_factor(rate / usual.high))
    return message("usual")


def _round_factor(factor: float) -> str:
    return f"{factor:.0f}" if factor >= 3 else f"{factor:.2g}"


def list_rates() -> list[ArticleBlock]:
    """Returns the section on the learning rate: a table, then a verdict for each value."""
    columns = tuple(f"{stage}, {method}" for stage, method in COLUMNS)
    rows = tuple(
        (f"`{format_value(rate)}`", *(str(judge_rate(rate, get_usual_rate(*column))) for column in COLUMNS))
        for rate in RATES
    )
    usual = (str(message("usual range")), *(format_usual(get_usual_rate(*column)) for column in COLUMNS))
    verdicts = tuple((f"`{format_value(rate)}`", statement, verdict) for rate, statement, verdict in list_verdicts())
    return [
        head(message("The learning rate of AdamW")),
        text(
            message("The article lets the amount of data decide. It does not: stage, method and size of the model do."),
            message("The amount of data decides the epochs and the batch size."),
            message("This is how the seven values compare with what is usual for a model of 7B:"),
        ),
        ArticleBlock(columns=(str(message("rate")), *columns), rows=(*rows, usual)),
        _tabulate((message("rate"), message("the article"), message("verdict")), verdicts),
    ]


def list_verdicts() -> list[tuple[float, UserMessage, UserMessage]]:
    """Returns each rate with the article's statement and the right one."""
    lora, full, dpo = get_usual_rate("sft", "lora"), get_usual_rate("sft", "full"), get_rate("dpo", "full")
    statements = (
        message("for large data or a complex model"), message("for small data"),
        message("for fast convergence in big networks"), message("for data of medium size"), message("no rule"),
        message("for small data"),
        message("for very small data"),
    )
    verdicts = (
        message(
            "The default of Hugging Face, and right for nothing in particular: below LoRA's usual range ({lora}), "
            "above that of full SFT ({full}), and {times} times the rate of full DPO.",
            lora=format_usual(lora), full=format_usual(full), times=f"{5e-5 / dpo:.0f}",
        ),
        message(
            "A rate for DPO, KTO and GRPO with all weights. SFT learns next to nothing with it; small data need more "
            "steps, not smaller ones."
        ),
        message(
            "With all weights the reverse holds: small models bear it, large ones do not. Usual for full SFT at "
            "{small}: {low}; at {large}: {high}. With LoRA small models take it: {rate} for the bundled one.",
            small="135M", large="7B", low=format_usual(get_usual_rate("sft", "full", SMALL)), high=format_usual(full),
            rate=format_value(get_rate("sft", "lora", SMALL)),
        ),
        message("Good for LoRA SFT, above all from 14B on; also for reward models with LoRA."),
        message(
            "High, but in use with LoRA on models of 1B and less; at 7B above the usual {lora}.",
            lora=format_usual(lora),
        ),
        message(
            "Good for full SFT of 7B (derived: {full}) and for DPO with LoRA ({dpo}). The number of examples does not "
            "matter.", full=format_value(get_rate("sft", "full")), dpo=format_usual(get_usual_rate("dpo", "lora")),
        ),
        message(
            "No effect. Adam moves a weight by about the rate in each step: {steps} steps move it by {moved}. In pure "
            "bf16 every such step is rounded away.", steps=17, moved=format_value(17e-7),
        ),
    )
    return list(zip(RATES, statements, verdicts, strict=True))


def list_norms() -> list[ArticleBlock]:
    """Returns the section on the gradient norm."""
    knob = next(k for k in list_knobs(list_options("trainer")["default"]) if k.name == "max_grad_norm")
    facts = {"default": format_value(knob.default), "usual": format_usual(knob.usual)}  # type: ignore[arg-type]
    rows = (
        ("`1`", message("if training is unstable"),
         message("The default for everything: {default}. Usual is {usual}; QLoRA's authors took 0.3.", **facts)),
        (message("`3` to `5`"), message("for moderate clipping"),
         message("Clips outliers only. Under Adam that is all that clipping does: a constant scale cancels out.")),
        (message("larger"), message("for adversarial training"),
         message("No part of fine-tuning a language model. 0 turns clipping off.")),
    )
    return [
        head(message("Maximum gradient norm")),
        _tabulate((message("value"), message("the article"), message("verdict")), rows),
        text(
            message("It does not limit the learning rate, and it is not the first thing to tune."),
            message("The log shows the norm before clipping: a logged 5 with a limit of 1 is no fault."),
        ),
    ]


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """A floating point format: its bits of exponent, and the bits of its fraction that are stored."""

    name: str
    exponent: int
    fraction: int

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return float((2 - 2.0**-self.fraction) * 2.0 ** (2 ** (self.exponent - 1) - 1))

    @property
    def significant(self) -> int:
        """Significant bits: those stored, and the leading one."""
        return self.fraction + 1

    @property
    def digits(self) -> float:
        """Significant decimal digits."""
        return self.significant * math.log10(2)


FORMATS = (FloatFormat("fp32", 8, 23), FloatFormat("fp16", 5, 10), FloatFormat("bf16", 8, 7))


def list_types() -> list[ArticleBlock]:
    """Returns the section on compute types."""
    rows = tuple(
        (f.name, f"{f.largest:,.0f}" if f.largest < 1e6 else f"{f.largest:.1e}".replace("e+", "e"),
         str(message("{bits} bits, {digits} digits", bits=f.significant, digits=f"{f.digits:.1f}")),
         f"{2.0 ** -(f.fraction):.2g}")
        for f in FORMATS
    )
    columns = _words(message("type"), message("largest number"), message("precision"), message("step at 1"))
    costs = ("precision", *_words(message("trained: weight + gradient + state"), message("frozen")))
    optim: Any = list_options("optim")["adamw"]()
    sizes = tuple((name, _add_bytes(optim, name), str(WIDTH[_get_precision(name).frozen]))
                  for name in ("fp32", "bf16", "fp16", "pure_bf16"))
    return [
        head(message("Compute types")),
        text(
            message("fp16 and bf16 both have 16 bits. fp16 has the finer steps, bf16 the larger range."),
            message(
                "fp16 ends at 65,504 and needs a loss scaler; bf16 reaches as far as fp32 and needs none, but a step "
                "below 1/512 of a weight is lost if the weight itself is in bf16."
            ),
        ),
        ArticleBlock(columns=columns, rows=rows),
        text(message("What `precision=` costs with AdamW, in bytes a weight:")),
        ArticleBlock(columns=costs, rows=sizes),
        text(
            message("So bf16 does not halve a full fine-tuning; `precision=pure_bf16` does."),
            message(
                "The device decides (`precision=auto`): bf16 if it multiplies it natively, else fp16 on a GPU and fp32 "
                "on a CPU."
            ),
        ),
    ]


def _get_precision(name: str) -> Any:
    return list_options("precision")[name]()


def _add_bytes(optim: Any, name: str) -> str:
    precision, numbers = _get_precision(name), SQUARE[0] * SQUARE[1]
    state = count_state_bytes(optim, precision, SQUARE) // numbers
    parts = (WIDTH[precision.trained], count_gradient_bytes(precision), state)
    return f"{parts[0]} + {parts[1]} + {parts[2]} = {sum(parts)}"


SCHEDULES = (
    "linear", "cosine", "constant", "constant_with_warmup", "cosine_with_restarts", "polynomial", "inverse_sqrt",
    "reduce_lr_on_plateau",
)
"""The article's eight schedules."""


def list_schedules() -> list[ArticleBlock]:
    """Returns the section on schedules, with their curves."""
    left = f"{measure_left():.0%}"
    rows = (
        ("linear", message("falls evenly"), message("Right. Falling to 0, it is as good as cosine.")),
        ("cosine", message("falls along a cosine"), message("Right; the default.")),
        ("constant", message("stays"),
         message("Right. For short runs with LoRA, and with an optimizer that needs no schedule.")),
        ("constant_with_warmup", message("starts large, then falls"),
         message("Wrong: it climbs from 0 during the warmup and then stays. The usual choice of GRPO and PPO.")),
        ("cosine_with_restarts", message("a cosine that begins again"),
         message("Right with two cycles or more. With one cycle, the default elsewhere, it is cosine.")),
        ("polynomial", message("falls by a polynomial"),
         message("Right with a power other than 1. With power 1, the default elsewhere, it is linear.")),
        ("inverse_sqrt", message("falls by the inverse root"),
         message("Only with a warmup. Without one {left} of the rate is left after 1,000 steps.", left=left)),
        ("reduce_lr_on_plateau", message("falls when the loss stops falling"),
         message("Right, if examples are held out: it counts evaluations, and refuses to run without them.")),
    )
    return [
        head(message("Learning rate schedules")),
        text(message(
            "Eight names, but at the defaults of a common form (no warmup, one cycle, power 1) few curves: polynomial "
            "is linear, a cosine with restarts is cosine, constant_with_warmup is constant, and inverse_sqrt nearly so."
        )),
        ArticleBlock(figure="schedules"),
        _tabulate((message("name"), message("the article"), message("verdict")), rows),
    ]


def measure_left(steps: int = 1000) -> float:
    """Returns the share of the rate that the inverse root leaves after some steps without a warmup."""
    config: Any = list_options("scheduler")["inverse_sqrt"](warmup_steps=0)  # type: ignore[call-arg]
    return build_curve(config, 2 * steps, 1e-4)(steps)


def list_more() -> list[ArticleBlock]:
    """Returns what other articles say."""
    rows = (
        (message("A larger alpha makes LoRA stronger."),
         message("The rank and the target modules are its capacity. Alpha only scales the step: keep alpha / rank.")),
        (message("More data want a smaller rate."), message("They want fewer epochs and a larger batch.")),
        (message("bf16 halves the memory."),
         message("Of frozen weights, yes. Of trained ones only `precision=pure_bf16` does.")),
        (message("KTO needs pairs."),
         message("It is Kahneman-Tversky Optimization and needs single answers, each good or bad.")),
        (message("A higher rate repairs a run that is too short."),
         message("More steps do: more examples, more epochs, a smaller batch.")),
    )
    return [head(message("What other articles say")), _tabulate((message("claim"), message("verdict")), rows)]


def list_blocks() -> list[ArticleBlock]:
    """Returns the whole article in the language in use."""
    build_sized_run("sft", "lora", LARGE)
    parts = (list_methods, list_stages, list_rates, list_norms, list_types, list_schedules, list_more)
    return [block for part in parts for block in part()]


def _words(*sentences: UserMessage) -> tuple[str, ...]:
    return tuple(map(str, sentences))


def _tabulate(columns: Sequence[UserMessage], rows: Sequence[Sequence[UserMessage | str]]) -> ArticleBlock:
    return ArticleBlock(columns=_words(*columns), rows=tuple(tuple(map(str, row)) for row in rows))
