"""`fulgurite train`, read top to bottom: gather → listen to the rules → model → method → stage → trainer → fit → say what came of it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything

from fulgurite import __version__
from fulgurite.callback.checkpoint import Checkpoints
from fulgurite.callback.early_stopping import Patience
from fulgurite.callback.metrics_logger import Record
from fulgurite.callback.optuna_pruning import Trial
from fulgurite.callback.privacy import PrivacyFile
from fulgurite.callback.progress import ProgressLine
from fulgurite.callback.run_folder import Home
from fulgurite.callback.samples import Samples
from fulgurite.callback.signals import Stop
from fulgurite.checkpoint import resume
from fulgurite.checkpoint.folder import step_of
from fulgurite.checkpoint.io import FolderCheckpointIO
from fulgurite.config.provenance import Composed
from fulgurite.config.run import Facts, RunConfig
from fulgurite.config.schema import build
from fulgurite.data.cache import cache_root
from fulgurite.data.dataset import AnyRows, TokenDataset
from fulgurite.data.loader import train_loader, val_loader
from fulgurite.data.preference_dataset import PreferenceDataset
from fulgurite.data.report import Report
from fulgurite.data.sample_prompts import sample_prompts
from fulgurite.data.sampler import PoissonOrder
from fulgurite.data.source import Source
from fulgurite.data.template import resolve
from fulgurite.errors import CheckpointError, ConfigError, Interrupted, ModelError, is_shortage
from fulgurite.files import remove_drafts
from fulgurite.logger.build import build_all
from fulgurite.logger.metrics_file import MetricsFile
from fulgurite.method.layerwise import build_freeze_schedules
from fulgurite.method.summary import table
from fulgurite.model.config import Hf
from fulgurite.model.load import Loaded
from fulgurite.model.probe import measure
from fulgurite.model.unwrap import inner
from fulgurite.monitor.callback import Watch
from fulgurite.monitor.context import about
from fulgurite.monitor.outcome import Ending, ending
from fulgurite.monitor.reporter import Voice
from fulgurite.monitor.update_ratio import UpdateRatio
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.prepare import Gathered, gather, settled
from fulgurite.plan.rules import speak
from fulgurite.plan.verdict import heard, write
from fulgurite.precision.policy import Dtypes
from fulgurite.privacy.accountant import drawn
from fulgurite.privacy.duplicates import alike, unit_words
from fulgurite.privacy.seed import secret_of
from fulgurite.run.folder import following, make, read_config, run_folder, write_atomically, write_run
from fulgurite.run.input_hashes import input_hashes
from fulgurite.run.load import applied, began_from, named, start
from fulgurite.run.reward_model import judge
from fulgurite.run.status import status
from fulgurite.stage.base import StageModule, trained
from fulgurite.stage.config import GenerativeStage
from fulgurite.stage.preference import PreferenceModule
from fulgurite.stage.reward_functions import Trained
from fulgurite.sweep.study import begin, report
from fulgurite.text.console import rank, say
from fulgurite.train.memory_trial import confirm
from fulgurite.train.oom import KNOB, Shortage, adopt, failure, halve, kept_whole, loading
from fulgurite.trainer.build import device


def train(composed: Composed, source: Source) -> int:
    """Run what was composed on data that were checked; returns 0. Raises RequestError, TrainingFailed, Interrupted."""
    run, dtypes = composed.run, settled(composed)
    begin(run.sweep, resumed=run.resume.run is not None)
    gathered = gather(composed, source, dtypes)
    troubles = listened(composed, gathered)
    folder = run_folder(run)
    make(folder)
    run.run_dir = str(folder.absolute())
    run.resume.run = run.run_dir if run.resume.run is not None else None
    say(source.checked.words(source) if source.checked else "")
    try:
        with only_first(status(folder, name=run.name)) as found:
            if rank() == 0:
                remove_drafts(folder)  # of a process that was killed while it wrote
                write(troubles, folder / "troubles.json")
            assembled = fitted(composed, dtypes, source, folder, gathered)
            how = ending(assembled.watch.seen.trail, assembled.watch.voice.rows)
            found |= {"state": how.state, **({"warnings": list(how.warnings)} if how.warnings else {})}
    finally:
        if torch.distributed.is_initialized():  # Lightning leaves it, and its threads abort a process that ends (seen: exit 134)
            torch.distributed.destroy_process_group()
    if rank() == 0:
        say(closing(assembled, how))
    return 0


def listened(composed: Composed, gathered: Gathered) -> list[Trouble]:
    """What the rules of `plan` say. Warnings are printed; RequestError, a line each, where one refuses the run."""
    troubles = speak(gathered.seen)
    for line in heard(troubles):
        say(line)
    return troubles


@dataclass(slots=True)
class Assembled:
    """Everything that a run consists of, ready to fit."""

    composed: Composed
    folder: Path
    stage: StageModule
    trainer: Trainer
    samples: Samples
    watch: Watch
    stop: Stop
    train_loader: Any
    val_loader: Any
    checkpoint: Path | None


def assemble(
    composed: Composed, dtypes: Dtypes, source: Source, folder: Path, g: Gathered, kept: Sequence[Any] = (),
) -> Assembled:
    """What is gathered → model → method → stage → trainer. `kept` are trackers that are open already."""
    run, facts, rows, val, total = composed.run, g.facts, g.rows, g.val, g.facts.total_steps
    if rank() == 0:
        write_atomically(folder / "data_report.json", g.report.text())
        say(g.report.sentence())
    checkpoint = found_checkpoint(composed, folder, total)
    if rank() == 0 and checkpoint is None:
        write_run(folder, composed)  # for a model that fails to load; once more below, when a trial step has had its say
    seed_everything(run.seed, verbose=False)
    loaded = start(run, dtypes)
    template = resolve(run.data.template, loaded.tokenizer, run.data.arguments(), run.data.special_tokens)
    model = applied(run, loaded, dtypes)
    refuse_unfit(run, loaded, model, rows)
    stage: StageModule = build(run.stage, model, run, dtypes, total)
    stage.freeze_schedules += build_freeze_schedules(run.method, model)
    stage.setup_data(source, rows, val, loaded, template)
    refer(stage, loaded, rows, val)
    judged(stage)
    confirm(composed, stage, rows, g.seen)
    private = made_private(composed, stage, rows, folder, checkpoint is not None, shared_rows(g.report)) if run.private else None
    order = private or stage.build_sampler(rows.lengths, facts.processes, rank())
    if rank() == 0:
        write_run(folder, composed)
        say(opening(composed, stage, facts, rows, val, folder, checkpoint))
    speaks = isinstance(run.stage, GenerativeStage)
    prompts = sample_prompts(run.stage.prompts, source, val) if speaks else []
    samples = Samples(
        folder / "samples.jsonl", model, loaded.tokenizer, template if run.stage.name != "pt" else None, prompts,
        max_new_tokens=run.stage.max_new_tokens if speaks else 0, total_steps=total, length=loaded.length,
    )
    if shortened := samples.shortened():
        say(f"warning: {shortened}")
    watch = Watch(Voice(folder / "watch.jsonl"), about(run, total, stage, rows), run.watch.quiet, samples)
    identity = {"data": g.encoded.key, "version": __version__, **began_from(run), **(input_hashes(run) if rank() == 0 else {})}
    listening = callbacks(run, folder, total, samples, watch, identity)
    trainer = build(
        run.trainer, run=run, dtypes=dtypes, folder=folder, total_steps=total, micro_batches=order.micro_batches_per_step,
        validates=val is not None, callbacks=listening, plugins=[FolderCheckpointIO()],
        trackers=list(kept) or (trackers(composed, folder, facts) if rank() == 0 else []),
    )
    return Assembled(
        composed, folder, stage, trainer, samples, watch, listening[-1],
        train_loader(rows, order, lambda: trainer.global_step, workers=run.trainer.num_workers, ahead=stage.ahead),
        val_loader(val, stage.validation_batch_size, facts.processes, rank(), stage.ahead) if val is not None else None, checkpoint,
    )


def refuse_unfit(run: RunConfig, loaded: Loaded, model: Any, rows: AnyRows) -> None:
    """Raise RequestError if the loaded model, asked with a few tokens, cannot be trained on these rows as they are."""
    found, name = measure(model), type(inner(model)).__name__
    if not found.causal:
        raise ModelError(
            f"A later token changes an earlier prediction of {name}: it would see what it is to learn. An encoder needs is_decoder=true "
            "in its config.json; else take a causal language model."
        )
    if str(run.data.packing) == "best_fit" and not found.packs:
        raise ConfigError(f"{name} cannot keep packed examples apart: each would see those before it in its row; set data.packing=none.")
    if found.positions is None:
        return
    loaded.length, longest = min(loaded.length, found.positions), int(max(rows.lengths, default=0))
    if longest > found.positions:
        raise ConfigError(f"The longest row has {longest:,} tokens, and {name} has {found.positions:,} positions; lower data.max_length.")


def made_private(composed: Composed, stage: StageModule, rows: AnyRows, folder: Path, resumed: bool, pieces: int) -> PoissonOrder:
    """The stage under its mechanism, and the order that draws each row by chance; ConfigError where privacy cannot be kept."""
    run = composed.run
    assert isinstance(rows, TokenDataset)  # privacy refuses the stages that compare
    secret, size = secret_of(run.privacy, folder, resumed), run.trainer.global_batch_size
    stage.set_mechanism(build(run.privacy, stage.model, rows=len(rows), batch_size=size, total_steps=stage.total_steps, secret=secret))
    assert stage.mechanism is not None
    rate, count = stage.mechanism.rate, len(rows)
    say(unit_words(*alike(rows), pieces))
    return PoissonOrder(rows.lengths, size, run.trainer.micro_batch_size, lambda step: drawn(secret, step, count, rate))


def shared_rows(report: Report) -> int:
    """Rows beyond one for each record: further pieces of long documents, and further answers of one conversation."""
    return report.pieces + report.split_rows - report.split_records


def judged(stage: StageModule) -> None:
    """Load the reward models that a stage is to learn from."""
    for reward in getattr(stage, "rewards", ()):
        if isinstance(reward, Trained):
            reward.score = judge(Path(reward.name).expanduser(), torch.device(device(stage.run.trainer)))


def refer(stage: StageModule, loaded: Loaded, rows: AnyRows, val: AnyRows | None) -> None:
    """Give a stage that has a reference the model of `stage.reference`, and let it compute beforehand what it wants to."""
    if not isinstance(stage, PreferenceModule):
        return
    run = stage.run
    if run.stage.reference is not None:
        other = named(Hf(path=run.stage.reference, attention=run.model.attention), stage.dtypes.frozen)
        if other.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
            raise ConfigError(f"stage.reference={run.stage.reference} has another tokenizer than the model; take one of the same family.")
        stage.take_reference(other.model)
    parts = [part for part in (rows, val) if isinstance(part, PreferenceDataset)]
    stage.before_fit(parts, cache_root(), torch.device(device(run.trainer)))


def found_checkpoint(composed: Composed, folder: Path, total: int) -> Path | None:
    """The newest whole checkpoint in the folder, if this is the same run with steps left; else CheckpointError."""
    checkpoint = resume.find(folder, say)
    if checkpoint is None:
        if composed.run.resume.run is not None:
            raise CheckpointError(f"{folder} has no checkpoint to go on from; start it again without resume.run.")
        return None
    adopt(composed, folder)
    for change in resume.check_same(
        read_config(folder), composed.config(), composed.run.resume.allow, folder, following(composed, folder),
    ):
        say(f"resumed with {change}, as resume.allow says")
    if rank() == 0:
        for line in resume.check_inputs(checkpoint, input_hashes(composed.run), composed.run.resume.allow):
            say(line)
    resume.check_unfinished(folder, step_of(checkpoint) or 0, total)
    resume.check_patient(checkpoint, composed.run.trainer.early_stopping_patience)
    return checkpoint


def callbacks(run: RunConfig, folder: Path, total: int, samples: Samples, watch: Watch, identity: dict[str, Any]) -> list[Any]:
    """In the order in which they must see a step: the row is written before the checkpoint that knows of it."""
    record = Record(MetricsFile(folder / "metrics.jsonl"), log_every=run.trainer.log_every, total_steps=total)
    checkpoints = Checkpoints(
        folder / "checkpoints", run.trainer.save_every, run.trainer.keep_checkpoints, identity=identity,
        allow=run.resume.allow
    )
    private = [PrivacyFile(folder / "privacy.json")] if run.private else []
    trial = [Trial(report(run.sweep), run.sweep.metric, total)] if run.sweep.trial is not None else []
    patience = [Patience(run.trainer.early_stopping_patience)] if run.trainer.early_stopping_patience is not None else []
    watched = [UpdateRatio(run.trainer.log_every), record, samples, ProgressLine(total), watch]
    return [Home(folder), *watched, *private, *patience, checkpoints, *trial, Stop(checkpoints)]


def trackers(composed: Composed, folder: Path, facts: Facts) -> list[Any]:
    """The trackers that were asked for, told the config and where each value came from."""
    origins = {name: {"origin": o.origin, "reason": o.reason} for name, o in composed.provenance.items()}
    summary = {"total_steps": facts.total_steps, "rows": facts.rows}
    return list(build_all(composed.run, folder, origins, summary))


def fit(assembled: Assembled) -> Shortage | None:
    """Lightning's loop; where memory ran out, what is known of it. The error is let go, and with it what its frames hold."""
    a = assembled
    try:
        with a.stop.listening():
            a.trainer.fit(a.stage, a.train_loader, a.val_loader, ckpt_path=a.checkpoint)
    except SystemExit as left:
        if isinstance(left.__context__, KeyboardInterrupt):  # Lightning's answer to one that code beside ours has raised
            raise Interrupted("Interrupted by a KeyboardInterrupt in the training step; earlier checkpoints are whole.") from left
        raise
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        return Shortage.of(a.stage, a.trainer.global_step + 1)
    finally:
        a.stage.close()
    return None


def fitted(composed: Composed, dtypes: Dtypes, source: Source, folder: Path, gathered: Gathered) -> Assembled:
    """The run, done. Out of memory halves the micro-batch once; TrainingFailed the second time, and where the weights do not fit.

    Trackers stay open over both parts: a run is one run to them, with each row once.
    """
    kept: list[Any] = []
    try:
        for again in (False, True):
            with loading(gathered.seen):
                assembled = assemble(composed, dtypes, source, folder, gathered, kept)
            kept = assembled.trainer.loggers
            for tracker in kept:
                tracker.hold()
            short = fit(assembled)
            if short is None:
                return assembled
            if why := kept_whole(composed.run, again):
                raise failure(composed.run, short, why)
            del assembled
            gc.collect()  # modules and trainer point at each other
            say(halve(composed, short))
            write_run(folder, composed)
            for tracker in kept:
                tracker.go_back()
                tracker.correct(KNOB, composed.run.trainer.micro_batch_size, composed.provenance[KNOB].reason)
    except BaseException:
        for tracker in kept:
            tracker.let_go()
        raise
    raise AssertionError("the second shortage is raised")


@contextlib.contextmanager
def only_first(context: contextlib.AbstractContextManager[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The context in the first process, an empty mapping in the others."""
    if rank() != 0:
        yield {}
        return
    with context as given:
        yield given


def opening(
    composed: Composed, stage: StageModule, facts: Facts, rows: AnyRows, val: AnyRows | None, folder: Path, checkpoint: Path | None
) -> str:
    """What will happen, in a few lines: what trains, on what, how long, and which values were derived and why."""
    run = composed.run
    some, whole = trained(stage)
    lines = [
        f"{run.stage.name} with {run.method.name} on {composed.choices['model']}: "
        f"{some:,} of {whole:,} parameters train ({some / whole:.1%})",
        f"{len(rows):,} rows, {len(val) if val is not None else 0:,} for validation; "
        f"{facts.total_steps:,} steps of {run.trainer.global_batch_size}; "
        f"{stage.dtypes.option} on {facts.device} ({stage.dtypes.reason})",
    ]
    if run.method.tells:
        lines.append(table([(name, p.numel()) for name, p in stage.model.named_parameters() if p.requires_grad], whole))
    lines += derived_lines(composed)
    if run.private:
        lines.append(
            f"  trainer.max_grad_norm is off: each row's gradient is clipped to privacy.max_grad_norm = {run.privacy.max_grad_norm:g}; "
            "a step draws each row by chance, and a row's loss is the mean over its own labels"
        )
    lines.append(f"run folder {folder}" + (f", going on from {checkpoint.name}" if checkpoint else ""))
    return "\n".join(lines)


def derived_lines(composed: Composed) -> list[str]:
    """A line for each value that nobody gave: the knob, the value, and from what it was derived."""
    told = {"precision", "name", "run_dir"}  # in the lines above and below
    derived = {n: o for n, o in composed.provenance.items() if o.origin == "derived" and o.value is not None and n not in told}
    values = {n: f"{o.value:g}" if isinstance(o.value, float) else str(o.value) for n, o in derived.items()}
    return [f"  {name} = {values[name]}: {origin.reason}" for name, origin in derived.items()]


def closing(assembled: Assembled, how: Ending) -> str:
    """The answers before and after, how the run ended, where it lies, and what to do next."""
    a = assembled
    last = a.stage.step_record.get("train/loss")
    val = a.trainer.callback_metrics.get("val/loss")
    numbers = ", ".join(f"{name} {float(x):.3f}" for name, x in (("train loss", last), ("validation loss", val)) if x is not None)
    talk = {f"fulgurite chat run={a.folder}": "talk with it"} if isinstance(a.composed.run.stage, GenerativeStage) else {}
    next_steps = {
        **talk,
        f"fulgurite export run={a.folder} out=my-model": "a folder that plain transformers loads",
        "fulgurite runs": "compare runs",
        "fulgurite explain method.rank": "what a knob does, what to set it to, and who says so",
    }
    width = max(map(len, next_steps))
    done = f"{how.opening()} {a.trainer.global_step:,} steps, {numbers}. The run lies in {a.folder}"
    early = [stopped_early(a)] if any(isinstance(c, Patience) and c.ended for c in a.trainer.callbacks) else []
    private = [a.stage.mechanism.sentence()] if a.stage.mechanism is not None else []
    advice = [f"  {command:<{width}}  {what}" for command, what in next_steps.items()]
    return "\n".join(["", a.samples.comparison(), done, *early, *private, "", *advice])


def stopped_early(a: Assembled) -> str:
    """At which step, why, and where the best checkpoint lies."""
    kept, step, total = a.stop.checkpoints, a.trainer.global_step, a.stage.total_steps
    return (
        f"Stopped early at step {step:,} of {total:,}: val/loss has not fallen below its {kept.best_value:.4g} of step {kept.best_step} "
        f"in {a.composed.run.trainer.early_stopping_patience} evaluations. The best checkpoint is "
        f"{kept.folder / 'best'}."
    )
