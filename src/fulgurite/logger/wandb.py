"""Weights & Biases through Lightning's logger, online or offline, decided before the first call."""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import write_file
from fulgurite.logger.config import Wandb
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.wandb_probe import find_key, probe_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WandbMode:
    """`online`, `offline` or `disabled`, and why it is not online."""

    name: str
    reason: str = ""
    base_url: str = ""


def build(
    config: Wandb, *, settings: dict[str, Any], run_dir: Path, provenance: dict[str, Any], summary: dict[str, Any],
) -> GuardedLogger:
    """The tracker, started. Its files lie in `run_dir/wandb`. Takes `config.wait` seconds at most; raises nothing."""
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0):
        return GuardedLogger(lambda: None, name="wandb")
    mode = decide_mode(config.wait)
    if mode.reason:
        log.warning("W&B is %s: %s. To upload later: %s", mode.name, mode.reason, _later(run_dir, "offline-run"))
    facts = {**settings, "provenance": provenance, "summary": summary}
    found = GuardedLogger(
        lambda: _open(config, mode, run_dir, facts), name="wandb", close=lambda tracker: _close(tracker, run_dir),
        patience=lambda: _choose_patience(mode), hint=f"To upload what is missing: {_later(run_dir, 'run')}",
    )
    found.start()
    return found


def decide_mode(wait: float) -> WandbMode:
    """WANDB_MODE is obeyed; else online needs a key and a server that takes it within `wait` seconds."""
    import wandb

    # wandb's own telemetry goes to the same server, also from an offline run, and holds a dead one's run 10 s at exit.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    found = wandb.setup(wandb.Settings(silent=True)).settings
    asked = os.environ.get("WANDB_MODE", "").strip().lower() or found.mode
    if asked in ("offline", "dryrun"):
        return WandbMode("offline", "WANDB_MODE says so")
    if asked == "disabled":
        return WandbMode("disabled")
    key = find_key(found.base_url)
    if not key:
        return WandbMode("offline", f"no API key for {found.base_url} (WANDB_API_KEY, or wandb login)")
    reason = probe_key(found.base_url, key, wait)
    return WandbMode("offline", reason) if reason else WandbMode("online", base_url=found.base_url)


def _open(config: Wandb, mode: WandbMode, run_dir: Path, facts: dict[str, Any]) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    (run_dir / "wandb").mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        experiment = _init(config, mode.name, run_dir, facts)
    except Exception as error:
        if mode.name != "online":
            raise
        log.warning("W&B goes offline: it answered and then failed to start (%s).", str(error).splitlines()[0][:200])
        # Under another id: wandb holds the first for a run in use.
        write_file(run_dir / "wandb" / "id", secrets.token_hex(4))
        experiment = _init(config, "offline", run_dir, facts)
    if not experiment.offline:
        log.info("W&B: %s", experiment.url)
    # Lightning defines its x-axis only for runs that it starts itself.
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    class Board(WandbLogger):  # type: ignore[misc]
        def correct(self, knob: str, value: Any, reason: str) -> None:
            provenance = {**facts["provenance"], knob: {"origin": "derived", "reason": reason}}
            self.experiment.config.update({knob: value, "provenance": provenance}, allow_val_change=True)

    return Board(experiment=experiment, save_dir=run_dir, project=config.project)


def _init(config: Wandb, mode: Any, run_dir: Path, facts: dict[str, Any]) -> Any:
    """wandb.init with nothing that could hold a secret: no command line, no git remote, no console, no code."""
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, save_code=False, x_disable_meta=True,
        disable_job_creation=True, init_timeout=config.wait,
        finish_timeout=max(config.wait - 1, 0.5), finish_timeout_raises=True,
    )
    return wandb.init(
        project=config.project, entity=config.entity, name=facts.get("name") or run_dir.name, dir=run_dir,
        id=_choose_run_id(run_dir), resume="allow", mode=mode, config=facts, settings=quiet,
    )


def _close(tracker: Any, run_dir: Path) -> None:
    try:
        tracker.experiment.finish()
    except TimeoutError:
        log.warning("W&B did not take everything in time. To upload what is missing: %s", _later(run_dir, "run"))


def _choose_patience(mode: WandbMode) -> float:
    """How long to wait for the end: half a minute where the server answers, else no longer than it takes to say so.

    Where it does not, wandb still writes its file when the process exits, within its `finish_timeout`.
    """
    if mode.name == "online" and probe_key(mode.base_url, find_key(mode.base_url), 0.7):
        return 0.3
    return 30.0


def _later(run_dir: Path, kind: str) -> str:
    return f"wandb sync {run_dir}/wandb/{kind}-*"


def _choose_run_id(run_dir: Path) -> str:
    """The same W&B run when the run folder is resumed; a W&B sweep's agent names its runs itself."""
    if given := os.environ.get("WANDB_RUN_ID"):
        return given
    place = run_dir / "wandb" / "id"
    if not place.exists():
        write_file(place, secrets.token_hex(4))
    return place.read_text(encoding="utf-8").strip()
