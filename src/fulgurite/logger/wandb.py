"""Weights & Biases through Lightning's logger, online or offline, chosen before the first call."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fulgurite.files.atomic import write_file
from fulgurite.language.library_errors import quote_foreign
from fulgurite.language.message import UserMessage, message
from fulgurite.logger.config import CheckpointUpload, Wandb, WandbMode
from fulgurite.logger.guard import GuardedLogger, Histogram
from fulgurite.logger.tracked_run import TrackedRun, make_id, read_commit, read_id, write_id
from fulgurite.logger.wandb_artifacts import build_checkpoint_artifact, link_inputs
from fulgurite.logger.wandb_probe import find_key, probe_key

log = logging.getLogger(__name__)

LEVELS = {"note": "INFO", "warning": "WARN", "stop": "ERROR", "error": "ERROR"}
"""W&B's level of an alert by the severity of a finding."""
TITLE = 64
"""Characters of an alert's title that W&B shows."""


@dataclass(frozen=True, slots=True)
class ChosenMode:
    """`online`, `offline` or `disabled`, and why it is not online."""

    name: str
    reason: UserMessage = field(default_factory=UserMessage)
    base_url: str = ""


def build(config: Wandb, run: TrackedRun) -> GuardedLogger:
    """Returns the started tracker, with its files in `wandb` in the run folder. Takes at most `config.wait` seconds;
    raises nothing."""
    from lightning.pytorch.utilities import rank_zero_only

    if getattr(rank_zero_only, "rank", 0):
        return GuardedLogger(lambda: None, name="wandb")
    mode = decide_mode(config.wait, config.mode)
    if mode.reason:
        log.warning(message(
            "W&B is {mode}: {reason}. To upload later: {command}",
            mode=mode.name, reason=mode.reason, command=_build_sync_command(run.folder, "offline-run"),
        ))
    found = GuardedLogger(
        lambda: _open(config, mode, run), name="wandb", close=lambda tracker: _close(tracker, run.folder),
        patience=lambda: _choose_patience(config, mode), hint=_build_upload_hint(run.folder),
    )
    found.start()
    return found


def decide_mode(wait: float, asked_for: WandbMode = WandbMode.online) -> ChosenMode:
    """Returns the mode that `logger.wandb.mode` or WANDB_MODE names; without them, online if there is a key and the
    server accepts it within `wait` seconds."""
    import wandb

    if asked_for is not WandbMode.online:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        reason = message("logger.wandb.mode={mode} asks for it", mode=asked_for.value)
        return ChosenMode("offline", reason) if asked_for is WandbMode.offline else ChosenMode("disabled")

    # wandb's telemetry goes to the same server, also from an offline run; a dead server then delays the exit by 10 s.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    found = wandb.setup(wandb.Settings(silent=True)).settings
    asked = os.environ.get("WANDB_MODE", "").strip().lower() or found.mode
    if asked in ("offline", "dryrun"):
        return ChosenMode("offline", message("WANDB_MODE is set to {mode}", mode=asked))
    if asked == "disabled":
        return ChosenMode("disabled")
    key = find_key(found.base_url)
    if not key:
        return ChosenMode(
            "offline",
            message("no API key for {server} (set WANDB_API_KEY, or run `wandb login`)", server=found.base_url),
        )
    reason = probe_key(found.base_url, key, wait)
    return ChosenMode("offline", reason) if reason else ChosenMode("online", base_url=found.base_url)


def _open(config: Wandb, mode: ChosenMode, run: TrackedRun) -> Any:
    (run.folder / "wandb").mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = run.describe(config)
    try:
        experiment = _init(config, mode.name, run, facts)
    except Exception as error:
        if mode.name != "online":
            raise
        log.warning(message(
            "W&B goes offline: the server answered, but wandb failed to start ({error}).",
            error=quote_foreign(str(error).splitlines()[0]),
        ))
        # Under another id: wandb regards the first one as in use.
        write_id(run.folder, "wandb", make_id())
        experiment = _init(config, "offline", run, facts)
    if not experiment.offline and mode.name == "online":
        log.info("W&B: %s", experiment.url)
        write_file(
            run.folder / "wandb" / "path", f"{experiment.entity}/{experiment.project}/{experiment.id}"
        )
        if config.lineage:
            link_inputs(experiment, run.inputs)
    # Lightning defines its x-axis only for runs that it starts itself.
    experiment.define_metric("trainer/global_step")
    experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    return _build_board(config, run, facts, experiment)


def _build_board(config: Wandb, run: TrackedRun, facts: dict[str, Any], experiment: Any) -> Any:
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    class Board(WandbLogger):  # type: ignore[misc]
        def correct(self, knob: str, value: Any, reason: str) -> None:
            provenance = {**facts["provenance"], knob: {"origin": "derived", "reason": reason}}
            self.experiment.config.update({knob: value, "provenance": provenance}, allow_val_change=True)

        def alert(self, rule: str, severity: str, text: str, step: int) -> None:
            if config.alerts:
                self.experiment.alert(f"{rule}, step {step}"[:TITLE], text, LEVELS[severity])

        def log_checkpoint(self, folder: Path, step: int, kind: str) -> None:
            # `all` has each checkpoint already at the end; the best one then gets its alias.
            wanted = ("all", "best") if config.checkpoints is CheckpointUpload.all else (config.checkpoints.value,)
            if kind in wanted:
                artifact = build_checkpoint_artifact(self.experiment.id, run.folder, folder, copies=kind == "all")
                if artifact is not None:
                    names = [folder.name] if kind == "all" else [folder.name, kind]
                    self.experiment.log_artifact(artifact, aliases=names)

        def log_histograms(self, histograms: dict[str, Histogram], step: int) -> None:
            drawn = {name: wandb.Histogram(np_histogram=pair) for name, pair in histograms.items()}
            self.experiment.log({**drawn, "trainer/global_step": step})

    return Board(experiment=experiment, save_dir=run.folder, project=config.project)


def _init(config: Wandb, mode: Any, run: TrackedRun, facts: dict[str, Any]) -> Any:
    """Calls wandb.init without anything that could contain a secret: its own record of the command line, git remote,
    console, code. The words of the run and the commit's hash are sent by us."""
    import wandb

    uploads = config.checkpoints is not CheckpointUpload.none
    # disable_git keeps wandb from reading the remote; a commit that it is given is still sent.
    commit = read_commit(Path.cwd()).partition("-")[0] if config.git_commit else ""
    quiet = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True, save_code=False, x_disable_meta=True,
        disable_job_creation=True, init_timeout=config.wait,
        finish_timeout=config.upload_wait if uploads else max(config.wait - 1, 0.5), finish_timeout_raises=True,
        **({"git_commit": commit} if commit else {}),
    )
    return wandb.init(
        project=config.project, entity=config.entity, name=run.name, dir=run.folder, group=config.group,
        job_type=config.job_type, tags=config.tags or None, notes=config.notes,
        id=_choose_run_id(config.id, run.folder), resume="allow", mode=mode, config=facts, settings=quiet,
    )


def _close(tracker: Any, run_dir: Path) -> None:
    try:
        tracker.experiment.finish()
    except TimeoutError:
        log.warning(message("W&B did not receive everything in time. {hint}", hint=_build_upload_hint(run_dir)))


def _choose_patience(config: Wandb, mode: ChosenMode) -> float:
    """Returns the seconds to wait for the end: 30 if the server answers, more for uploads, else next to none.

    If it does not answer, wandb still writes its file when the process exits, within its `finish_timeout`.
    """
    if mode.name == "online" and probe_key(mode.base_url, find_key(mode.base_url), 0.7):
        return 0.3
    return 30.0 + (0.0 if config.checkpoints is CheckpointUpload.none else config.upload_wait)


def _build_upload_hint(run_dir: Path) -> UserMessage:
    return message("To upload the rest: {command}", command=_build_sync_command(run_dir, "run"))


def _build_sync_command(run_dir: Path, kind: str) -> str:
    return f"wandb sync {run_dir}/wandb/{kind}-*"


def _choose_run_id(asked_for: str | None, run_dir: Path) -> str:
    """Returns the id of the W&B run, the same when the run folder is resumed; a W&B sweep's agent gives the id of its
    runs itself."""
    known = read_id(run_dir, "wandb")
    given = os.environ.get("WANDB_RUN_ID") or asked_for or known or make_id()
    return known if given == known else write_id(run_dir, "wandb", given)
