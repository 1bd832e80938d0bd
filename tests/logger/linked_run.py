"""An online run with an input, a finding and a checkpoint, for the test of W&B's server: `linked_run.py FOLDER`."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from fulgurite.config.compose import compose
from fulgurite.logger.tracked_run import RunInput, TrackedRun
from fulgurite.logger.wandb import build

WORDS = [
    "logger=wandb", "logger.wandb.group=seeds", "logger.wandb.job_type=ablation", "logger.wandb.tags=[a,b]",
    "logger.wandb.notes=Why", "logger.wandb.id=mine7", "logger.wandb.checkpoints=best",
]


def main(folder: Path) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(name)s %(message)s")
    checkpoint = folder / "checkpoints" / "step-1"
    checkpoint.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 1\n")
    (checkpoint / "weights.safetensors").write_text("w")
    inputs = (RunInput("dataset", "data-guide", {"records_sha256": "7"}),)
    run = TrackedRun(folder, {"name": "mine", "optim.lr": 0.1}, words=("stage=sft", "data.path=[a b]"), inputs=inputs)
    tracker = build(compose(WORDS).run.logger["wandb"], run)
    tracker.log_metrics({"train/loss": 1.0}, 1)
    tracker.alert("norm-high", "stop", "The norm is high.", 1)
    while not tracker._calls.empty() or any(t.name == "wandb-inputs" for t in threading.enumerate()):
        threading.Event().wait(0.05)
    tracker.log_checkpoint(checkpoint, 1, "last")  # not asked for
    tracker.log_checkpoint(checkpoint, 1, "best")
    tracker.finalize("success")
    print("works" if tracker.works else "off", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
