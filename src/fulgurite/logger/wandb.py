"""Weights & Biases through Lightning's logger, online or offline, chosen before the first call."""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import write_file
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.config import Wandb
from fulgurite.logger.guard import GuardedLogger
from fulgurite.logger.wandb_probe import find_key, probe_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WandbMode:
    """`online`, `offline` or `disabled`, and why it is not online."""

    name: str
    reason: UserMessage = field(default_factory=UserMessage)
    base_url: str = ""


def build(
    config: Wandb, *, settings: dict[str, Any], run_dir: Path, provenance: dict[str, Any], summary: dict[str, Any],
) -> GuardedLogger:
    """Returns the started tracker, with its files in `run_dir/wandb`. Takes at most `config.wait` seconds; raises
    nothing."""
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0):
        return GuardedLogger(lambda: None, name="wandb")
    mode = decide_mode(config.wait)
    if mode.reason:
        log.warning(message(
            "W&B is {mode}: {reason}. To upload later: {command}",
            mode=mode.name, reason=mode.reason, command=_build_sync_command(run_dir, "offline-run"),
        ))
    facts = {**settings, "provenance": provenance, "summary": summary}
    found = GuardedLogger(
        lambda: _open(config, mode, run_dir, facts), name="wandb", close=lambda tracker: _close(tracker, run_dir),
        patience=lambda: _choose_patience(mode), hint=_build_upload_hint(run_dir),
    )
    found.start()
    return found


def decide_mode(wait: float) -> WandbMode:
    """Returns the mode that WANDB_MODE names; without it, online if there is a key and the server accepts it within
    `wait` seconds."""
    import wandb

    # wandb's telemetry goes to the same server, also from an offline run; a dead server then delays the exit by 10 s.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    found = wandb.setup(wandb.Settings(silent=True)).settings
    asked = os.environ.get("WANDB_MODE", "").strip().lower() or found.mode
    if asked in ("offline", "dryrun"):
        return WandbMode("offline", message("WANDB_MODE is set to {mode}", mode=asked))
    if asked == "disabled":
        return WandbMode("disabled")
    key = find_key(found.base_url)
    if not key:
        return WandbMode(
            "offline",
            message("no API key for {server} (set WANDB_API_KEY, or run `wandb login`)", server=found.base_url),
        )
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
        log.warning(message(
            "W&B goes offline: the server answered, but wandb failed to start ({error}).",
            error=quote_foreign(str(error).splitlines()[0]),
        ))
        # Under another id: wandb regards the first one as in use.
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
    """Calls wandb.init without anything that could contain a secret: command line, git remote, console, code."""
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
        log.warning(message("W&B did not receive everything in time. {hint}", hint=_build_upload_hint(run_dir)))


def _choose_patience(mode: WandbMode) -> float:
    """Returns the seconds to wait for the end: 30 if the server answers, else next to none.

    If it does not answer, wandb still writes its file when the process exits, within its `finish_timeout`.
    """
    if mode.name == "online" and probe_key(mode.base_url, find_key(mode.base_url), 0.7):
        return 0.3
    return 30.0


def _build_upload_hint(run_dir: Path) -> UserMessage:
    return message("To upload the rest: {command}", command=_build_sync_command(run_dir, "run"))


def _build_sync_command(run_dir: Path, kind: str) -> str:
    return f"wandb sync {run_dir}/wandb/{kind}-*"


def _choose_run_id(run_dir: Path) -> str:
    """Returns the id of the W&B run, the same when the run folder is resumed; a W&B sweep's agent gives the id of its
    runs itself."""
    if given := os.environ.get("WANDB_RUN_ID"):
        return given
    place = run_dir / "wandb" / "id"
    if not place.exists():
        write_file(place, secrets.token_hex(4))
    return place.read_text(encoding="utf-8").strip()
