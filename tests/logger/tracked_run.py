"""A small run, tracked by W&B or not, for tests that need a process of its own: `tracked_run.py FOLDER TRACKED DIES`.

Prints one JSON object: the weights' hash, and the seconds that building and fitting took.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "callback")]

import torch  # noqa: E402
import toy_stage  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

from fulgurite.callback.metrics_logger import MetricsLogger  # noqa: E402
from fulgurite.config.compose import compose  # noqa: E402
from fulgurite.config.schema import walk_settings  # noqa: E402
from fulgurite.logger.build import build_loggers  # noqa: E402
from fulgurite.logger.metrics_file import MetricsFile  # noqa: E402
from fulgurite.logger.tracked_run import TrackedRun  # noqa: E402


class Table(Callback):
    """Logs a table of samples, and lets the server die, in the middle of the run."""

    def __init__(self, dies: bool) -> None:
        self.dies = dies

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 5:
            if self.dies:
                # Until it has taken all rows so far; then the test ends the server.
                while not all(tracker._calls.empty() for tracker in trainer.loggers):
                    time.sleep(0.01)
                print("die", flush=True)
                sys.stdin.readline()
            for tracker in trainer.loggers:
                tracker.log_text("samples", ["prompt", "answer"], [["Why?", "Because."]], trainer.global_step)


def main(folder: Path, tracked: bool, dies: bool) -> None:
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    run = compose([f"logger={'wandb' if tracked else 'none'}", *(["logger.wandb.wait=2"] if tracked else [])]).run
    settings = {knob.path: value for knob, value in walk_settings(run)}
    begin = time.monotonic()
    origins = {"seed": {"origin": "default", "reason": ""}}
    trackers = build_loggers(run.logger, TrackedRun(folder, settings, origins, {"rows": 4}))
    built = time.monotonic() - begin
    record = MetricsLogger(MetricsFile(folder / "metrics.jsonl"), log_every=1, total_steps=12)
    torch.manual_seed(5)
    stage = toy_stage.fit([record, Table(dies)], steps=12, micro=1, loggers=trackers, folder=folder)
    weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in stage.parameters())).hexdigest()
    noise = hashlib.sha256(torch.randn(8).numpy().tobytes()).hexdigest()
    found = {"weights": weights, "noise": noise, "built": built, "seconds": time.monotonic() - begin}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "yes", sys.argv[3] == "yes")
