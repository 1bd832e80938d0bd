"""`make journey`: from a plain model to one that was taught, then rewarded, and beside it one that was taught, then
shown pairs.

    SFT → RM → PPO        learn answers; learn which answer is better; learn to give answers that are found better
    SFT → DPO             learn answers; learn from the pairs themselves

    python examples/journey.py [FOLDER] [KNOB=VALUE ...]

The bundled model and the shipped data, two cores, some twenty minutes. Each stage is one call of `fulgurite train`,
printed as a
person would type it, and starts from the run before it. Words at the end are added to every stage.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.cli.main import main as fulgurite

TokenDataset = list[dict[str, Any]]


@dataclass(frozen=True)
class Stage:
    """One run: its words, the run it starts from, the run that rewards it, and the numbers that tell what it did."""

    name: str
    why: str
    words: tuple[str, ...]
    numbers: Callable[[TokenDataset], list[str]]
    after: str = ""
    reward: str = ""

    def command(self, folder: Path, more: list[str]) -> list[str]:
        """The words of `fulgurite train`."""
        found = [f"stage={self.name}", *self.words, f"run_dir={folder / self.name}"]
        found += ["model=hf", f"model.path={folder / self.after}"] if self.after else []
        found += [f'stage.reward=["{folder / self.reward}"]'] if self.reward else []
        return found + [word for word in more if not (self.after and word.startswith("model"))]


def column(rows: TokenDataset, name: str) -> list[float]:
    """The values of a metric, in order."""
    return [row[name] for row in rows if name in row]


def change(what: str, before: float, values: list[float], form: str = ".2f") -> str:
    """A number before, and the mean of the last five after."""
    return f"{what} {before:{form}} → {statistics.fmean(values[-5:]):{form}}"


def of_sft(rows: TokenDataset) -> list[str]:
    losses = column(rows, "train/loss")
    return [change("loss", losses[0], losses), f"held-out loss {min(column(rows, 'val/loss')):.2f}"]


def of_rm(rows: TokenDataset) -> list[str]:
    """A head of zeros ranks by chance."""
    return [change("held-out accuracy", 0.5, column(rows, "val/accuracy")[-1:])]


def of_ppo(rows: TokenDataset) -> list[str]:
    """Several steps learn from one rollout, whose mean reward each of them tells."""
    steps = column(rows, "train/reward")
    rewards = [reward for n, reward in enumerate(steps) if n == 0 or reward != steps[n - 1]]
    return [
        change("mean reward of a rollout", rewards[0], rewards), f"divergence {column(rows, 'train/kl')[-1]:.1f} nats",
    ]


def of_dpo(rows: TokenDataset) -> list[str]:
    """The policy is its reference at first: all margins are 0."""
    margin, accuracy = (column(rows, f"val/{name}")[-1:] for name in ("reward_margin", "accuracy"))
    return [change("held-out margin", 0.0, margin), f"held-out accuracy {accuracy[0]:.2f}"]


JOURNEY = (
    Stage("sft", "learns to answer questions on fine-tuning", ("data=guide",), of_sft),
    Stage(
        "rm", "learns from pairs which answer is better", ("data=guide_preference", "trainer.max_steps=24"), of_rm,
        after="sft",
    ),
    Stage(
        "ppo", "learns to give answers that the reward model likes",
        (
            "data=guide", "scheduler=constant_with_warmup", "optim.lr=2e-4", "stage.max_new_tokens=64",
            "stage.gae_lambda=1",
            "stage.minibatches=2", "stage.epochs_per_rollout=2", "trainer.global_batch_size=32",
            "trainer.micro_batch_size=8",
            "trainer.max_steps=36", "trainer.eval_every=36",
        ),
        of_ppo, after="sft", reward="rm",
    ),
    Stage(
        "dpo", "learns the same preference without a reward model",
        ("data=guide_preference", "trainer.max_steps=30", "optim.lr=2e-4"),
        of_dpo, after="sft",
    ),
)


def rows_of(run: Path) -> TokenDataset:
    """metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def travel(folder: Path, more: list[str]) -> list[tuple[str, float, str]]:
    """Run every stage; returns its name, its seconds, and what came of it. Raises SystemExit where one fails."""
    found = []
    for stage in JOURNEY:
        words = stage.command(folder, more)
        print(f"\n=== {stage.name}: {stage.why} ===\n$ fulgurite train {' '.join(words)}\n", flush=True)
        began = time.perf_counter()
        status = fulgurite(["train", *words])
        if status:
            raise SystemExit(status)
        found.append((stage.name, time.perf_counter() - began, "; ".join(stage.numbers(rows_of(folder / stage.name)))))
    return found


def main(words: list[str]) -> int:
    """Run the journey and print its table."""
    folder = Path(words.pop(0) if words and "=" not in words[0] else time.strftime("runs/journey/%Y-%m-%d_%H-%M-%S"))
    found = travel(folder, words)
    print("\n| stage | seconds | before → after |\n|---|---|---|")
    print("\n".join(f"| {name} | {seconds:.0f} | {numbers} |" for name, seconds, numbers in found))
    print(
        f"\n{sum(seconds for _, seconds, _ in found) / 60:.1f} minutes. Talk with what came of it: fulgurite chat "
        f"run={folder / 'ppo'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
