"""What sees each step of a run beside what every run has (metrics.jsonl, checkpoints, signals)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, ClassVar

from fulgurite.config.confidence import Sure
from fulgurite.config.eval_arguments import Turns
from fulgurite.config.schema import Empty, Option, above, at_least, between, knob, option
from fulgurite.language.message import UserMessage, message

if TYPE_CHECKING:
    from fulgurite.config.run import RunConfig



@dataclass(slots=True)
class CallbackOption(Option):
    """What every callback declares. `builds` names a function that takes the option and a
    `callback.context.CallbackContext`."""

    several: ClassVar[bool] = True
    order: ClassVar[int] = 0
    """Callbacks of order 0 see a step before its row is written; the others after it, the smaller numbers first."""
    only_watches: ClassVar[bool] = False
    """Whether a resumed run may have it or not: it changes nothing that is computed."""
    needs_tracker: ClassVar[bool] = False
    """Whether it writes to the trackers of `logger=` alone."""

    def find_refusal(self, run: RunConfig) -> str | UserMessage | None:
        """Refuses a run without a tracker, if the callback writes only to trackers."""
        if not self.needs_tracker or any(tracker.takes_metrics for tracker in run.logger.values()):
            return None
        return (
            f"callback={self.name} writes to a tracker, and this run has none that takes its numbers; "
            "add logger=tensorboard or wandb."
        )


@option("callback", "samples")
@dataclass(slots=True)
class SamplesOption(CallbackOption):
    """The same prompts answered before training, at each evaluation and at the end, in
    samples.jsonl (`stage.prompts`)."""

    builds: ClassVar[str] = "fulgurite.callback.samples:build"
    costs: ClassVar[str] = "The time of a few answers at each evaluation."
    order: ClassVar[int] = 10
    only_watches: ClassVar[bool] = True


@option("callback", "eval")
@dataclass(slots=True)
class EvalOption(CallbackOption):
    """What `fulgurite eval` measures, every so many steps, on a few held-out examples: `eval/...` in metrics.jsonl and
    the trackers."""

    builds: ClassVar[str] = "fulgurite.evaluate.callback:build"
    costs: ClassVar[str] = "The time of the examples at each evaluation, mostly of their answers."
    misread: ClassVar[str] = "val/loss is measured without it, on the whole validation set."
    order: ClassVar[int] = 15
    only_watches: ClassVar[bool] = True

    every: int | None = knob(
        None, "Optimizer steps between two evaluations; the last step has one too.", source="Ours",
        bounds=at_least(1), usual=between(50, 1000), advice="Leave it empty: then it goes with the validation loss.",
        empty=Empty("trainer.eval_every"), raise_when="When generation takes a large part of the time.",
        lower_when="To see when answers become better or worse.", time="In inverse proportion.",
    )
    max_examples: int = knob(
        32, "Evaluate at most so many held-out examples, the same ones each time.", source="Ours",
        bounds=at_least(1), usual=between(16, 256),
        advice="32 show a trend; `fulgurite eval` measures all of them afterwards.",
        raise_when="When the numbers are too noisy.", lower_when="When generation takes too long.",
        time="In proportion.",
    )
    metrics: list[str] = knob(
        [], "Metrics of the model's answers beside the reference answers, as in `fulgurite eval`.",
        source="BLEU and chrF by sacrebleu, https://arxiv.org/abs/1804.08771; docs/evaluate.md has the paper of each",
        advice="exact_match or chrf; without metrics and rewards no answer is generated.",
        time="The time of one answer for each example.",
    )
    turns: Turns = knob(
        Turns.last, "Which answers of a conversation the model is asked for, as in `fulgurite eval`.", source="Ours",
        advice="all with metrics tool_calls: the last answer of a conversation is seldom a call.",
        time="all: the time of one answer for each turn.",
    )
    reward: list[str] = knob(
        [], "Rewards that score the answers, as in stage.reward.", source="Ours; TRL's rewards",
        advice="A rule, such as match:answer, needs no file.", time="The time of one answer for each example.",
    )
    max_new_tokens: int = knob(
        64, "Maximum tokens of an answer.", source="Ours, as for samples (stage.max_new_tokens)",
        bounds=at_least(1), usual=between(16, 512), advice="As short as the answers of the data allow.",
        raise_when="When eval/cut is high.", lower_when="When evaluations take too long.",
        time="In proportion to the length of the answers.",
    )
    batch_size: int = knob(
        8, "How many answers are generated at a time.", source="Ours", bounds=at_least(1), usual=between(1, 64),
        advice="Raise it on a GPU that has memory left beside the optimizer.",
        raise_when="When a GPU has memory left.", lower_when="When memory runs out.",
        memory="The key-value cache grows in proportion.",
    )

    def find_refusal(self, run: RunConfig) -> UserMessage | None:
        """Refuses several processes, and answers of a model that writes none."""
        if run.world_size > 1:
            return message(
                "callback=eval works in one process, and this run has {count}; evaluate its checkpoints with "
                "`fulgurite eval run=RUN checkpoint=step-N` instead.",
                count=run.world_size,
            )
        if (self.metrics or self.reward) and not run.stage.speaks:
            return message(
                "callback.eval.metrics and callback.eval.reward need answers, which a model of stage={stage} does not "
                "write; leave them out.",
                stage=run.stage.name,
            )
        return None


@option("callback", "progress")
@dataclass(slots=True)
class ProgressOption(CallbackOption):
    """One line that shows how far the run is, on a terminal."""

    builds: ClassVar[str] = "fulgurite.callback.progress:build"
    costs: ClassVar[str] = "Nothing."
    order: ClassVar[int] = 20
    only_watches: ClassVar[bool] = True


@option("callback", "monitor")
@dataclass(slots=True)
class MonitorOption(CallbackOption):
    """The rules that watch a run: they warn of what goes wrong, in watch.jsonl too, and stop a
    run that cannot succeed."""

    builds: ClassVar[str] = "fulgurite.monitor.callback:build"
    costs: ClassVar[str] = "20 to 50 µs a step (measured)."
    misread: ClassVar[str] = "To silence one rule leave it on, and name the rule in monitor.ignore."
    order: ClassVar[int] = 30
    only_watches: ClassVar[bool] = True


@option("callback", "lr_monitor")
@dataclass(slots=True)
class LrMonitorOption(CallbackOption):
    """Lightning's LearningRateMonitor: the learning rate of each parameter group, in the trackers."""

    builds: ClassVar[str] = "fulgurite.callback.stock:build_lr_monitor"
    costs: ClassVar[str] = "Nothing."
    misread: ClassVar[str] = "The rate of the first group is train/lr in every run; this adds the other groups."
    only_watches: ClassVar[bool] = True
    needs_tracker: ClassVar[bool] = True

    log_momentum: bool = knob(
        False, "Whether the momentum, or Adam's betas, are logged too.", source="Lightning docs, LearningRateMonitor",
        advice="Only for schedules that change it.",
    )
    log_weight_decay: bool = knob(
        False, "Whether the weight decay of each group is logged too.", source="Lightning docs, LearningRateMonitor",
        advice="Once, to see which groups decay.",
    )


@option("callback", "device_stats")
@dataclass(slots=True)
class DeviceStatsOption(CallbackOption):
    """Lightning's DeviceStatsMonitor: memory and use of the GPU or the CPU, in the trackers."""

    builds: ClassVar[str] = "fulgurite.callback.stock:build_device_stats"
    costs: ClassVar[str] = "A look at the device for each micro-batch."
    only_watches: ClassVar[bool] = True
    needs_tracker: ClassVar[bool] = True

    cpu_stats: bool = knob(
        False, "Whether the CPU's load and memory are logged on a GPU run too.",
        source="Lightning docs, DeviceStatsMonitor",
        advice="When the GPU waits and the data may be the reason.",
    )


@option("callback", "gradient_histograms")
@dataclass(slots=True)
class GradientHistogramsOption(CallbackOption):
    """A histogram of the gradient of each trained tensor, in trackers that draw them: wandb, tensorboard, trackio."""

    builds: ClassVar[str] = "fulgurite.callback.gradient_histograms:build"
    costs: ClassVar[str] = "A pass over the gradients at the steps that are drawn."
    only_watches: ClassVar[bool] = True
    needs_tracker: ClassVar[bool] = True

    every: int = knob(
        100, "Optimizer steps between two sets of histograms; the first step has one too.",
        source="W&B docs, wandb.watch(log_freq=...)", bounds=at_least(1), usual=between(10, 1000),
        advice="100 shows how gradients change; the histograms are those of whole steps, before clipping.",
        raise_when="With full fine-tuning of a large model: each set has 65 numbers a tensor.",
        lower_when="To look at the first steps of a run that diverges.",
        time="9 ms for a million trained weights on one CPU thread; on a GPU a few waits for each tensor.",
    )

    def find_refusal(self, run: RunConfig) -> str | UserMessage | None:
        """Refuses tensors that are divided over processes too."""
        if not run.strategy.replicates:
            return message(
                "callback=gradient_histograms reads whole gradients, and strategy={name} divides them over processes; "
                "leave it out.",
                name=run.strategy.name,
            )
        return CallbackOption.find_refusal(self, run)


@option("callback", "throughput")
@dataclass(slots=True)
class ThroughputOption(CallbackOption):
    """Peak memory of the GPU and the share of its arithmetic peak that training reaches (MFU), in every row."""

    builds: ClassVar[str] = "fulgurite.callback.throughput:build"
    costs: ClassVar[str] = "Nothing."
    misread: ClassVar[str] = (
        "MFU counts the products that training needs; recomputed activations and a reference model lower it."
    )
    only_watches: ClassVar[bool] = True

    peak_tflops: float | None = knob(
        None, "Dense bf16 operations a second of one device, in units of 10¹².",
        source="The device's data sheet", sure=Sure.practice,
        bounds=above(0, 100_000), advice="Set it for a device that has no train/mfu in its rows.",
        empty=Empty("the data sheet's number for a known NVIDIA GPU; else there is no train/mfu"),
        misread="Data sheets print the rate with sparsity, which is twice as high.",
    )

    def find_refusal(self, run: RunConfig) -> str | UserMessage | None:
        """Refuses stages that spend their time on generation."""
        if run.stage.rolls_out:
            return message(
                "callback=throughput counts the arithmetic of training, and stage={name} generates most of its time; "
                "leave it out.",
                name=run.stage.name,
            )
        return None


@dataclass(slots=True)
class OfferedOption(CallbackOption):
    """A Lightning callback without parameters, of another package."""

    builds: ClassVar[str] = "fulgurite.callback.stock:build_offered"
    costs: ClassVar[str] = "See that package."
    place: ClassVar[str] = ""
    """Where its class is, as `module:Class`."""


def offer(name: str, place: str) -> type[CallbackOption]:
    """Register the callback class at `place` as the option `name`; it is imported only when a run is built with it."""
    words = f"The Lightning callback {place}, from an installed package."
    made = type(f"Offered_{name}", (OfferedOption,), {"place": place, "__doc__": words, "__slots__": ()})
    return option("callback", name)(made)


def offer_installed() -> None:
    """Register what installed packages offer under the entry point `fulgurite.callbacks`."""
    for entry in entry_points(group="fulgurite.callbacks"):
        offer(entry.name, entry.value)


offer_installed()
