"""Trackers that get the metrics in addition to metrics.jsonl, which is always written."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.described import DescribedEnum
from fulgurite.config.schema import Empty, Option, above, between, knob, option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig


RESERVED = ":;,#?/'"
"""Characters that an id of a W&B run cannot have (wandb 0.31, `Settings.validate_run_id`)."""


@dataclass(slots=True)
class Logger(Option):
    """The declarations of every tracker."""

    several: ClassVar[bool] = True
    takes_metrics: ClassVar[bool] = True
    """Whether it stores every logged number; else only those of metrics.jsonl."""
    needs: ClassVar[str] = ""
    """The package that it needs beside our own requirements, for `import`."""
    package: ClassVar[str] = ""
    """Its name for `pip install`, if that is another one."""
    trial_group: ClassVar[str] = ""
    """The parameter that names the runs of one `-m` or one search together, if the tracker has groups."""

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses to start if the package that the tracker needs is not installed."""
        if not self.needs or importlib.util.find_spec(self.needs) is not None:
            return None
        return message(
            "logger={name} needs the package {package}, which is not installed; install it: pip install {package}",
            name=self.name, package=self.package or self.needs,
        )


class CheckpointUpload(DescribedEnum):
    """Which checkpoints a tracker keeps as artifacts."""

    none = "none", "No checkpoint; they stay in the run folder."
    last = "last", "The last checkpoint, at the end of the run."
    best = "best", "The checkpoint with the lowest validation loss, at the end of the run."
    all = "all", "Each checkpoint when it is saved, as a version of its own."


class WandbMode(DescribedEnum):
    """How W&B works, by wandb's own names."""

    online = "online", "Online if there is an API key and the server answers, otherwise offline."
    offline = "offline", "Files in the run folder, which `wandb sync` uploads later."
    disabled = "disabled", "Nothing is recorded."


@dataclass(slots=True)
class RunTracker(Logger):
    """What every tracker of whole runs declares: the group of a run, and where it comes from."""

    trial_group: ClassVar[str] = "group"

    group: str | None = knob(
        None, "The group that the tracker shows a run in.", source="W&B docs, Group runs",
        advice="Set it for runs that belong together, such as the seeds of one experiment.",
        empty=Empty("the folder of `-m` or the study of a search; else none"),
    )
    git_commit: bool = knob(
        True, "Whether the commit of the git repository in the current folder is recorded.",
        source="Ours: only the hash, because a remote's address or a diff may have a password in it",
        advice="Leave it on: a result can be reproduced only with its code.",
    )
    command_line: bool = knob(
        True, "Whether the run's command is recorded: `fulgurite train` and its words.",
        source="Ours: words that look like secrets are refused before a run starts",
        advice="Leave it on, unless a path in it is confidential.",
    )


@dataclass(slots=True)
class ArtifactTracker(RunTracker):
    """What a tracker with artifacts declares."""

    checkpoints: CheckpointUpload = knob(
        CheckpointUpload.none, "Which checkpoints are uploaded as artifacts, each with the run's config.",
        source="Lightning docs, WandbLogger(log_model=...)",
        advice="best for a model that others load; an artifact contains the optimizer too, so that a run can resume.",
        memory="A copy of each uploaded checkpoint on the server.",
        misread="An adapter's checkpoint has the adapter only; its base model is named in the config.",
    )
    upload_wait: float = knob(
        120.0, "Seconds to wait at the end of the run for uploads.", source="Ours: wandb waits without a limit",
        bounds=above(0, 86_400), usual=between(10, 3600), advice="Enough for the checkpoints at your upload speed.",
        raise_when="With large checkpoints on a slow connection.", lower_when="On a cluster that bills idle GPUs.",
    )


@option("logger", "wandb")
@dataclass(slots=True)
class Wandb(ArtifactTracker):
    """Weights & Biases: online if there is an API key and the server answers, otherwise offline. It never delays or
    stops a run."""

    builds: ClassVar[str] = "fulgurite.logger.wandb:build"
    costs: ClassVar[str] = "A few seconds at the start; an account, or offline files."
    needs: ClassVar[str] = "wandb"

    project: str = knob(
        "fulgurite", "The W&B project.", source="W&B docs, wandb.init",
        advice="Use one project for the runs that you want to compare.",
    )
    entity: str | None = knob(
        None, "The W&B team or user.", source="W&B docs, wandb.init", advice="Set it only for a team.",
        empty=Empty("your default team or user"),
    )
    id: str | None = knob(
        None, "The id of the W&B run; one that exists is continued.", source="W&B docs, wandb.init(id=..., resume=...)",
        advice="Leave it empty: a resumed run folder continues its W&B run by itself.",
        empty=Empty("a new one, kept in the run folder"),
        misread="Two runs with one id overwrite each other's metrics.",
    )
    job_type: str = knob(
        "train", "The W&B job type.", source="W&B docs, wandb.init(job_type=...)",
        advice="Change it to tell kinds of runs in one group apart.",
    )
    tags: list[str] = knob(
        [], "Tags of the run.", source="W&B docs, wandb.init(tags=...)",
        advice="Short words to filter by: logger.wandb.tags=[baseline,v2].",
    )
    notes: str | None = knob(
        None, "A description of the run.", source="W&B docs, wandb.init(notes=...)",
        advice="Why you make this run, in a sentence.", empty=Empty("no description"),
    )
    mode: WandbMode = knob(
        WandbMode.online, "Whether W&B uploads while the run trains.", source="W&B docs, wandb.init(mode=...)",
        advice="offline on a machine without network. The variable WANDB_MODE has the same effect.",
    )
    alerts: bool = knob(
        True, "Whether each finding of the monitor becomes a W&B alert.", source="W&B docs, Send an alert",
        advice="Each rule alerts once a run; W&B sends an e-mail or a Slack message only if your settings ask for it.",
    )
    lineage: bool = knob(
        True, "Whether the data and the starting models are linked to the run as W&B artifacts.",
        source="W&B docs, Explore artifact graphs",
        advice="The data and the base model are described, not uploaded: a few kilobytes.",
        misread="An offline run records its inputs in its config only, because wandb links artifacts online.",
    )
    wait: float = knob(
        5.0, "Seconds to wait for the server before the run goes offline.",
        source="measured: wandb.init blocks 10 s and more on a dead server, then raises (ecosystem notes)",
        bounds=above(0, 60), usual=between(1, 15), advice="5 is enough for a normal connection.",
        raise_when="Behind a slow proxy.", lower_when="If the server is often down.",
        time="At most this many seconds, once.",
    )

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses an id that wandb would refuse after the model is loaded, beside what every tracker refuses."""
        if (refusal := ArtifactTracker.find_refusal(self, run)) is not None or self.id is None:
            return refusal
        if self.id and self.id == self.id.strip() and not set(self.id) & set(RESERVED):
            return None
        return message(
            "logger.wandb.id={id!r} is not an id of W&B: it must not be empty, begin or end with a space, or contain "
            "one of {characters}",
            id=self.id, characters=RESERVED,
        )


@option("logger", "tensorboard")
@dataclass(slots=True)
class TensorBoard(Logger):
    """TensorBoard event files in the run folder. Needs the package tensorboard (`pip install tensorboard`)."""

    builds: ClassVar[str] = "fulgurite.logger.tensorboard:build"
    costs: ClassVar[str] = "The package tensorboard."
    needs: ClassVar[str] = "tensorboard"


@option("logger", "csv")
@dataclass(slots=True)
class Csv(Logger):
    """metrics.csv in the run folder, one column per metric. For spreadsheets."""

    builds: ClassVar[str] = "fulgurite.logger.csv:build"
    takes_metrics: ClassVar[bool] = False
    costs: ClassVar[str] = "Nothing."


@option("logger", "mlflow")
@dataclass(slots=True)
class MLflow(ArtifactTracker):
    """MLflow through Lightning's MLFlowLogger: a local database without a server, or a tracking server. Needs mlflow
    or mlflow-skinny (`pip install mlflow-skinny`)."""

    builds: ClassVar[str] = "fulgurite.logger.mlflow:build"
    costs: ClassVar[str] = "Two seconds in the background for the first run of a new database; the package."
    needs: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow-skinny"

    experiment_name: str = knob(
        "fulgurite", "The MLflow experiment.", source="Lightning docs, MLFlowLogger",
        advice="Use one experiment for the runs that you want to compare.",
    )
    tracking_uri: str | None = knob(
        None, "Address of the tracking server, or of a database.", source="MLflow docs, Tracking server",
        advice="http://host:5000 for a server. Keep passwords in MLFLOW_TRACKING_PASSWORD, not here.",
        empty=Empty("MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the current folder, which `mlflow ui` shows"),
    )
    run_id: str | None = knob(
        None, "The id of an MLflow run to continue.", source="Lightning docs, MLFlowLogger(run_id=...)",
        advice="Leave it empty: a resumed run folder continues its MLflow run by itself.",
        empty=Empty("a new run, whose id is kept in the run folder"),
    )
    tags: dict[str, str] = knob(
        {}, "Tags of the run, each a name and a value.", source="MLflow docs, mlflow.set_tags",
        advice="Names to filter by, each with a value: {team:search}.",
    )
    notes: str | None = knob(
        None, "A description of the run, which MLflow renders as Markdown.", source="MLflow docs, mlflow.note.content",
        advice="Why you make this run, in a sentence.", empty=Empty("no description"),
    )


@option("logger", "trackio")
@dataclass(slots=True)
class Trackio(RunTracker):
    """Trackio: a local dashboard with wandb's interface, by Hugging Face; `trackio show` opens it. Needs the package
    trackio (`pip install trackio`)."""

    builds: ClassVar[str] = "fulgurite.logger.trackio:build"
    costs: ClassVar[str] = "The package trackio; a local database."
    needs: ClassVar[str] = "trackio"

    project: str = knob(
        "fulgurite", "The Trackio project.", source="Trackio docs, trackio.init",
        advice="Use one project for the runs that you want to compare.",
    )
    space_id: str | None = knob(
        None, "The Hugging Face Space that shows the run, as owner/name.", source="Trackio docs, trackio.init",
        advice="Only to share the dashboard: the metrics then leave this machine.",
        empty=Empty("no Space: a database on this machine, in TRACKIO_DIR"),
    )
    private: bool = knob(
        True, "Whether a new Space is private.", source="Trackio docs, trackio.init; the default is ours",
        advice="Make it public later, on its page.",
    )
