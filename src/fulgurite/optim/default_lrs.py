"""What learning rate to start from, by stage, method and model size: one table, with who says so. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fulgurite.config.schema import Derived, Range

if TYPE_CHECKING:
    from fulgurite.config.run import Facts, RunConfig

SIZES = (0.5, 4.0, 14.0)
"""Upper ends of the size classes in billions of parameters; the last class is open."""


@dataclass(frozen=True, slots=True)
class Row:
    """Rates for models up to 0.5, 4, 14 billion parameters and beyond; usual ranges up to 4 billion and beyond."""

    rates: tuple[float, float, float, float]
    usual_small: Range
    usual_large: Range
    source: str


TABLE: dict[tuple[str, str], Row] = {
    ("pt", "full"): Row(
        (2e-4, 5e-5, 2e-5, 1e-5), Range(2e-5, 3e-4), Range(5e-6, 5e-5),
        "GPT-2 in Dutch 2e-4 (alignment-handbook, verified); larger sizes ours",
    ),
    ("pt", "lora"): Row(
        (2e-4, 1e-4, 1e-4, 1e-4), Range(5e-5, 1e-3), Range(5e-5, 5e-4), "LLaMA-Factory's example 1e-4 (verified); the rest ours",
    ),
    ("sft", "full"): Row(
        (1e-4, 3e-5, 1e-5, 3e-6), Range(1e-5, 1e-3), Range(2e-6, 2e-5),
        "SmolLM2-135M 1e-3, Zephyr 7B 2e-5, LLaMA-Factory's examples 1e-5, Tülu 3 5e-6 (verified)",
    ),
    ("sft", "lora"): Row(
        (1e-3, 3e-4, 2e-4, 1e-4), Range(1e-4, 2e-3), Range(1e-4, 3e-4),
        "QLoRA and TRL's PEFT table 2e-4, torchtune 3e-4, above 13B 1e-4 (verified); below 0.5B measured on the guide, one seed",
    ),
    ("ppo", "full"): Row(
        (3e-6, 3e-6, 1e-6, 3e-7), Range(3e-7, 3e-6), Range(3e-7, 3e-6),
        "TRL 3e-6 at 1 to 4B (verified), torchtune 1e-6 at 7B (unverified); other sizes ours",
    ),
    ("ppo", "lora"): Row(
        (1e-5, 1e-5, 1e-5, 3e-6), Range(3e-6, 3e-5), Range(3e-6, 3e-5), "ours: about ten times the rate of full fine-tuning",
    ),
    ("grpo", "full"): Row(
        (1e-6, 1e-6, 1e-6, 3e-7), Range(3e-7, 5e-6), Range(3e-7, 5e-6), "TRL 1e-6, Tülu 3's RL 3e-7 (verified); above 30B ours",
    ),
    ("grpo", "lora"): Row(
        (1e-5, 1e-5, 1e-5, 3e-6), Range(5e-6, 5e-5), Range(5e-6, 5e-5),
        "TRL's PEFT table 1e-5, its LoRA guide 5e-5, axolotl's example 5e-6 (verified); above 30B ours",
    ),
}

TABLE |= {
    ("dpo", "full"): Row(
        (1e-6, 1e-6, 5e-7, 2e-7), Range(5e-7, 2e-6), Range(2e-7, 1e-6), "SmolLM2 1e-6, Zephyr and Tülu 3 5e-7, at 70B 2e-7 (verified)",
    ),
    ("dpo", "lora"): Row(
        (1e-5, 1e-5, 5e-6, 2e-6), Range(1e-6, 2e-5), Range(1e-6, 1e-5), "TRL's PEFT table and Zephyr's QLoRA 5e-6 (verified); smaller ours",
    ),
    ("kto", "full"): Row(
        (1e-6, 1e-6, 1e-6, 5e-7), Range(5e-7, 5e-6), Range(5e-7, 5e-6), "TRL's KTO page: 5e-7 to 5e-6, never outside (verified)",
    ),
    ("kto", "lora"): Row(
        (5e-6, 5e-6, 5e-6, 2e-6), Range(5e-7, 5e-6), Range(5e-7, 5e-6), "TRL's KTO page: 5e-7 to 5e-6, never outside (verified)",
    ),
    ("rm", "full"): Row(
        (1e-5, 1e-5, 5e-6, 3e-6), Range(3e-6, 3e-5), Range(3e-6, 1e-5), "Tülu 3 3e-6, TRL's default 1e-5 (verified); by size ours",
    ),
    ("rm", "lora"): Row(
        (3e-4, 1e-4, 1e-4, 1e-4), Range(1e-4, 1e-3), Range(1e-4, 1e-3), "LLaMA-Factory's example 1e-4, TRL's page 1e-3 (verified)",
    ),
}

KIN = {"qlora": "lora", "vera": "lora", "ia3": "lora"}
"""Methods that take LoRA's rates; freeze, layerwise, oft and llama_pro take those of full fine-tuning."""

METHODS = {"vera": 5.0, "ia3": 3.0, "freeze": 3.0, "oft": 3.0}
"""How many times its kin's rate a method takes. Vectors move more than matrices (VeRA's paper has ten times LoRA's rate, T-Few
3e-3 for (IA)³: unverified); where few layers or only rotations learn, up to ten times the full rate (ours; LLaMA-Factory's
examples of freeze and OFT use 1e-4 at 4B to 7B, verified)."""

FACTORS: dict[str, tuple[float, str]] = {
    "sgd": (100.0, "its steps are not scaled by a running variance: 10 to 1000 times, unverified, ours"),
    "adafactor": (20.0, "its rate is relative to the size of the weights, some 0.05 in a language model, ours"),
    "lion": (0.3, "lion-pytorch's README says a third to a tenth, and a third was best in its own tests (verified)"),
    "schedule_free": (2.0, "schedulefree's README says 1 to 10 times (verified); 2 is ours"),
    "muon": (1.0, "RMS matching gives its steps AdamW's size, https://arxiv.org/abs/2502.16982 and torch's docs (verified)"),
    "adamw_8bit": (1.0, "the same steps with rounded state, https://arxiv.org/abs/2110.02861"),
    "paged_adamw_8bit": (1.0, "the same steps with rounded state, https://arxiv.org/abs/2110.02861"),
    "galore": (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)"),
    "apollo": (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)"),
    "badam": (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there (verified)"),
    "adam_mini": (1.0, "1e-5 in LLaMA-Factory's example, as AdamW there; the paper: AdamW's (verified)"),
}
"""How many times AdamW's rate another optimizer takes, and who says so."""

MUON_OWN = Derived(0.02, "Muon in its own scale takes about 0.02 whatever the model (Muon's README, verified)")
MUON_OWN_USUAL = Range(0.002, 0.05)


def row(stage: str, method: str) -> Row:
    """The table's row; methods and stages without one of their own take full's and sft's."""
    method = KIN.get(method, method)
    return TABLE.get((stage, method)) or TABLE.get((stage, "full")) or TABLE[("sft", "full")]


def size_class(billions: float | None) -> int:
    """The column for a model size; an unknown size counts as 7 billion, where a rate too high does most harm."""
    size = 7.0 if billions is None else billions
    return sum(size > top for top in SIZES)


def _factor(run: RunConfig) -> float:
    return FACTORS.get(run.optim.name, (1.0, ""))[0] * METHODS.get(run.method.name, 1.0)


def _own_scale(run: RunConfig) -> bool:
    return run.optim.name == "muon" and bool(run.optim.scale == "own")


def usual(run: RunConfig) -> Range:
    """The usual range of `optim.lr` under this run's stage, method, model size and optimizer."""
    return MUON_OWN_USUAL if _own_scale(run) else _usual(run, _factor(run))


def usual_adam(run: RunConfig) -> Range:
    """The usual range of the rate of what goes by AdamW beside another optimizer."""
    return _usual(run, 1.0)


def _usual(run: RunConfig, factor: float) -> Range:
    found = row(run.stage.name, run.method.name)
    span = found.usual_small if size_class(run.model.billions()) < 2 else found.usual_large
    return Range((span.low or 0) * factor, min((span.high or 1) * factor, 1.0))


def recommend(run: RunConfig, facts: Facts) -> Derived:
    """The rate where `optim.lr` is empty, with its reason."""
    return MUON_OWN if _own_scale(run) else _recommend(run, _factor(run))


def recommend_adam(run: RunConfig, facts: Facts) -> Derived:
    """Muon's `optim.adam_lr` where it is empty, with its reason."""
    if _own_scale(run):
        return _recommend(run, 1.0)
    return Derived(run.optim.lr, "optim.lr: under optim.scale=rms Muon's steps have the size of AdamW's")


def _recommend(run: RunConfig, factor: float) -> Derived:
    stage, method, size = run.stage.name, run.method.name, run.model.billions()
    found = row(stage, method)
    rate = min(found.rates[size_class(size)] * factor, 1.0)
    what = "a model of unknown size (taken as 7B)" if size is None else f"a model of {size:.3g}B parameters"
    who = " and ".join(n for n, known in ((run.optim.name, FACTORS), (method, METHODS)) if n in known)
    times = f", times {factor:g} for {who}" if factor != 1 else ""
    return Derived(rate, f"{stage} with {method} on {what}{times}: {found.source}")
