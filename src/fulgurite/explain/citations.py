"""Where the names that sources go by lead to, so that no declaration must repeat an address."""

from __future__ import annotations

import re
from functools import cache

from fulgurite.config.schema import LINK

ARXIV = {
    "LoRA+": "2402.12354",
    "QLoRA": "2305.14314",
    "Zephyr": "2310.16944",
    "Tülu 3": "2411.15124",
    "InstructGPT": "2203.02155",
    "Llama 2": "2307.09288",
    "Llama 3": "2407.21783",
    "LISA": "2403.17919",
    "SimPO": "2405.14734",
    "ORPO": "2403.07691",
    "RPO": "2405.16436",
    "IRPO": "2404.19733",
    "MPO": "2411.10442",
    "CPO": "2401.08417",
    "TR-DPO": "2404.09656",
    "DAPO": "2503.14476",
    "Dr. GRPO": "2503.20783",
    "R1": "2501.12948",
    "DPO paper": "2305.18290",
    "APOLLO": "2412.05270",
    "GaLore": "2403.03507",
    "BAdam": "2404.02827",
    "VeRA": "2310.11454",
}
"""Papers that sources call by their short names."""

PLACES = {
    "TRL": "https://huggingface.co/docs/trl",
    "LLaMA-Factory": "https://github.com/hiyouga/LlamaFactory",
    "peft": "https://huggingface.co/docs/peft",
    "PEFT": "https://huggingface.co/docs/peft",
    "transformers": "https://huggingface.co/docs/transformers",
    "HF datasets": "https://huggingface.co/docs/datasets",
    "HF": "https://huggingface.co/docs/transformers",
    "torch": "https://docs.pytorch.org/docs/stable",
    "torchtune": "https://github.com/pytorch/torchtune",
    "Lightning": "https://lightning.ai/docs/pytorch/stable",
    "SmolLM2": "https://github.com/huggingface/alignment-handbook",
    "SmolLM3": "https://github.com/huggingface/alignment-handbook",
    "axolotl": "https://github.com/axolotl-ai-cloud/axolotl",
    "Unsloth": "https://docs.unsloth.ai",
    "Tinker": "https://github.com/thinking-machines-lab/tinker-cookbook",
    "W&B": "https://docs.wandb.ai",
    "MLflow": "https://mlflow.org/docs/latest",
    "Trackio": "https://huggingface.co/docs/trackio",
    "TensorFlow Privacy": "https://www.tensorflow.org/responsible_ai/privacy/guide",
    "Opacus": "https://github.com/pytorch/opacus",
    "schedulefree": "https://github.com/facebookresearch/schedule_free",
    "Muon": "https://github.com/KellerJordan/Muon",
    "lion-pytorch": "https://github.com/lucidrains/lion-pytorch",
    "pytorch-optimizer": "https://github.com/kozistr/pytorch_optimizer",
    "openai/lm-human-preferences": "https://github.com/openai/lm-human-preferences",
    "DPO authors": "https://github.com/eric-mitchell/direct-preference-optimization",
    "Stanford Alpaca": "https://github.com/tatsu-lab/stanford_alpaca",
}
"""Projects and their documentation."""


@cache
def _build_pattern() -> re.Pattern[str]:
    names = sorted([*ARXIV, *PLACES], key=len, reverse=True)
    return re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, names)) + r")(?![\w+-])")


def find_links(source: str) -> list[tuple[str, str]]:
    """The addresses behind a source, each with the name it goes by there: those of its names, then those it spells
    out."""
    plain = LINK.sub(lambda found: " " * len(found[0]), source)
    found = {
        name: PLACES.get(name) or f"https://arxiv.org/abs/{ARXIV[name]}" for name in _build_pattern().findall(plain)
    }
    spelled = [address.rstrip(".") for address in LINK.findall(source)]
    pairs = [(name, address) for name, address in found.items() if address not in spelled]
    return list(
        {
            address: (name, address) for name, address in [*pairs, *((a.partition("://")[2], a) for a in spelled)]
        }.values()
    )
