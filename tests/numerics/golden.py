"""The losses that twelve steps must give, and how they are made anew: `python -m tests.numerics.golden`.

Make them anew only for a change that is meant to change numbers, and say in the commit which.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("golden.json")
STEPS = 12
ROLLOUTS = ["stage.reward=['count:e']", "stage.max_new_tokens=8", "stage.minibatches=2", "stage.epochs_per_rollout=2"]
WORDS: dict[str, list[str]] = {
    "sft": [], "pt": [], "rm": [], "dpo": [], "kto": [],
    "grpo": [*ROLLOUTS, "stage.num_generations=4", "stage.kl_coefficient=0.01"], "ppo": ROLLOUTS,
}
"""The stages, and what each is told besides."""
CASES = {f"{stage}-{method}": (stage, method) for stage in ("sft", "pt") for method in ("full", "lora")}
CASES |= {f"{stage}-lora": (stage, "lora") for stage in ("rm", "dpo", "kto", "grpo", "ppo")}
FALLING = ("sft", "pt", "rm", "dpo", "kto")
"""The stages whose loss falls as they learn; a rollout's is near 0 by its nature."""
ANSWERS = (
    "It is the size of each step.", "Raise it until the loss jumps, then halve it.", "Sixteen.",
    "Keep it at the default value.",
)


def write_data(folder: Path, stage: str) -> Path:
    """Forty examples that depend on nothing outside this file."""
    place = folder / f"{stage}.jsonl"
    lines: list[dict[str, Any]] = []
    for n in range(40):
        question, answer = f"What should I set knob {n} to" + ", in few words" * (n % 3) + "?", ANSWERS[n % 4]
        talk = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if stage == "pt":
            lines.append({"text": f"{question} {answer} " * (1 + n % 4)})
        elif stage in ("rm", "dpo"):
            lines.append({"prompt": question, "chosen": answer, "rejected": f"A house by the river, number {n % 7}."})
        elif stage == "kto":
            lines.append({"messages": talk, "label": n % 4 < 2})
        else:
            lines.append({"messages": talk} if stage == "sft" else {"prompt": question})
    place.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return place


def losses_of(case: str, folder: Path) -> list[float]:
    """The training losses of a case, then its validation loss; one thread, float32."""
    from tests.end_to_end.runs import losses, rows, tiny

    stage, method = CASES[case]
    words = [
        f"stage={stage}", f"method={method}", "data=file", f"data.path={write_data(folder, stage)}",
        "data.max_samples=40",
        "data.max_length=96", f"trainer.max_steps={STEPS}", "trainer.micro_batch_size=2",
        f"trainer.eval_every={STEPS}", "optim=adamw", "optim.lr=3e-3",
        "scheduler=cosine", "scheduler.warmup_ratio=0.25", "seed=7", *WORDS[stage],
    ]
    run = tiny(folder / case, *words)
    return losses(run) + [row["val/loss"] for row in rows(run) if "val/loss" in row]


def machine() -> dict[str, str]:
    """What decides the last bits: torch's version, the instruction set that its kernels use, and the processor, which
    MKL looks at."""
    import torch

    return {
        "torch": torch.__version__.partition("+")[0], "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
    }


def processor() -> str:
    """The processor's name, numbers and cache, where Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return "unknown"
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return " ".join(
        said.get(key, "")
        for key in ("model name", "cpu family", "model", "stepping", "cache size")
    ).strip()


def main() -> None:
    """Write golden.json."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = {case: losses_of(case, Path(folder)) for case in CASES}
    FILE.write_text(json.dumps({"machine": machine(), "losses": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    main()
