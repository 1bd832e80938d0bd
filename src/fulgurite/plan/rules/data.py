"""Rules about the examples: cut, dropped, repeated, drawn, packed, held out."""

from __future__ import annotations

from fulgurite.language.message import UserMessage, message
from fulgurite.optim.default_lrs import usual
from fulgurite.plan.context import DataFacts, PlanFacts
from fulgurite.plan.rules import rule
from fulgurite.plan.thresholds import (
    ALIKE,
    CUT_MANY,
    CUT_SOME,
    EPOCHS_LARGE,
    EPOCHS_MOST,
    LABELS_FEW,
    LARGE,
    LONG,
    is_trial,
)
from fulgurite.plan.thresholds import TOKENISED_A_SECOND as A_SECOND
from fulgurite.rules.registry import Finding, Severity


@rule("data.too-long", "error", insist=True, about="data.max_length", source=(
    "S11, P13: LlamaFactory #5820, #7985, #3945, #5759, #3143, #3995, #3039"
))
def check_too_long(seen: PlanFacts) -> Finding | None:
    """Examples over data.max_length: how many, and what happens to them; an error if more than a fifth lose their end.
    """
    data, run = seen.data, seen.run
    # running text is cut into pieces, and nothing is lost
    if data is None or not data.too_long or run.stage.reads.running_text:
        return None
    policy = str(run.data.too_long)
    all_of_them = max(len(data.lengths) if data.lengths is not None else data.records, data.too_long)
    share = (data.cut_answers if policy == "truncate" else data.too_long) / all_of_them
    severity = Severity.note
    if share > CUT_SOME and policy == "truncate":
        severity = Severity.error if share > CUT_MANY and not is_trial(seen) else Severity.warning
    elif share > CUT_MANY:
        severity = Severity.warning
    known = message("; 99 % have at most {length:,}", length=data.percentile_99) if data.percentile_99 else message("")
    return Finding(
        message(
            "{count:,} of {total:,} examples ({share:.1%}) are longer than {limit:,} tokens: {policy}{known}.",
            count=data.too_long, total=all_of_them, share=data.too_long / all_of_them, limit=data.max_length,
            policy=_describe_policy(policy, data), known=known,
        ),
        _suggest_longer(seen, data), severity=severity,
    )


@rule("data.few-labels", "error", insist=True, source=(
    "reliability T21 (loss 0 from the start: masked or cut, nothing is left to learn)"
))
def check_few_labels(seen: PlanFacts) -> Finding | None:
    """Examples from which nothing is learned, beyond what data.max_drop tolerates; or hardly any token learned at all.
    """
    data, run = seen.data, seen.run
    if data is None or run.stage.rolls_out:
        return None
    bad = sum(count for why, count in data.dropped.items() if why.startswith("bad record"))
    if bad + data.empty_labels > run.data.max_drop and data.empty_labels:
        return Finding(
            message(
                "{count:,} examples have no label left after masking and cutting at {limit:,} tokens, and are left "
                "out.",
                count=data.empty_labels, limit=data.max_length,
            ),
            f"data.max_drop={bad + data.empty_labels}", severity=Severity.warning if is_trial(seen) else Severity.error,
        )
    share = data.label_tokens / data.tokens if data.tokens else 1.0
    if share >= LABELS_FEW or run.stage.gives_rewards:  # a reward is one number an answer
        return None
    remedy = "data.mask=answers" if str(run.data.mask) == "last" else ""
    return Finding(
        message(
            "Only {share:.1%} of {tokens:,} tokens are learned: most of the work goes into prompts.",
            share=share, tokens=data.tokens,
        ),
        remedy, severity=Severity.warning,
    )


@rule("packing.mixing", "error", about="data.packing", source=(
    "S12: LlamaFactory #8277, #7656, #4268, #4744; measured on a small model of the config, and on the loaded one "
    "(model/probe.py)"
))
def check_mixing(seen: PlanFacts) -> Finding | None:
    """Packing with an architecture that cannot keep the examples of a row apart."""
    if str(seen.run.data.packing) != "best_fit" or seen.model.packs is not False:
        return None
    return Finding(
        message(
            "{architecture} cannot keep packed examples apart: each would see the examples before it in its row.",
            architecture=seen.model.architecture,
        ),
        "data.packing=none",
    )


@rule(
    "packing.mask", "note", about="data.packing",
    source="Ours, measured on a small model of the config (model/document_probe.py): blocks of attention, or a layer "
    "that looks into its mask",
)
def check_mask(seen: PlanFacts) -> Finding | None:
    """Packing with an architecture that needs a mask to keep the examples of a row apart."""
    if str(seen.run.data.packing) != "best_fit" or seen.model.documents is not False:
        return None
    return Finding(
        message(
            "{architecture} keeps packed examples apart by a mask of all tokens by all tokens of a row: memory and "
            "time of attention grow with the square of data.max_length, not of the examples' own lengths.",
            architecture=seen.model.architecture,
        )
    )


@rule("data.beyond-model", "error", about="data.max_length", source=(
    "Ours, tried: a model with learned positions dies of an index, one with rotary positions reads what it never saw"
))
def check_beyond_model(seen: PlanFacts) -> Finding | None:
    """Examples longer than the model was made for."""
    data, room = seen.data, seen.model.max_positions
    if data is None or not room or data.lengths is None or not len(data.lengths):
        return None
    longest = min(int(data.lengths.max()), data.max_length)
    if longest <= room:
        return None
    return Finding(
        message(
            "The longest example has {longest:,} tokens, but the model reads at most {room:,}.",
            longest=longest, room=room,
        ),
        f"data.max_length={room}",
    )


@rule(
    "data.sampled",
    "note",
    about="data.max_samples",
    source="S10: a limit elsewhere takes the first rows (read in source)",
)
def check_sampled(seen: PlanFacts) -> Finding | None:
    """data.max_samples leaves examples out, and how they are drawn."""
    data = seen.data
    drawn = seen.run.data.max_samples
    if data is None or not data.not_drawn or drawn is None:
        return None
    return Finding(
        message(
            "data.max_samples draws {drawn:,} of {total:,} examples at random with seed {seed}.",
            drawn=drawn, total=drawn + data.not_drawn, seed=seen.run.seed,
        ),
        "data.max_samples=null",
    )


@rule("data.no-validation", "warning", about="data.val_fraction", source=(
    "S9: a validation share of 0 is the default elsewhere (read in source)"
))
def check_no_validation(seen: PlanFacts) -> Finding | None:
    """No validation set. A schedule that needs a validation loss is refused by scheduler/plateau.py."""
    if seen.data is None or seen.data.val_rows:
        return None
    return Finding(
        message("There is no validation set: over-fitting will not be visible, and there is no best checkpoint."),
        "data.val_fraction=0.05",
    )


@rule("data.repeats", "warning", about="trainer.epochs", source="P20: LlamaFactory #7485, #2938, #2947, #7543")
def check_repeats(seen: PlanFacts) -> Finding | None:
    """So many epochs that the loss falls in steps, which is memorising; or examples that occur twice in the data."""
    data = seen.data
    if data is None or not data.rows or seen.run.stage.rolls_out:  # these answer anew in each pass
        return None
    most = EPOCHS_LARGE if data.rows >= LARGE else EPOCHS_MOST
    passes = _count_passes(seen, data)
    if passes > most * 1.001 and not is_trial(seen):
        limited = seen.run.trainer.max_steps is not None
        remedy = (
            f"trainer.max_steps={max(1, int(seen.steps * most / passes))}" if limited else f"trainer.epochs={most:g}"
        )
        return Finding(
            message(
                "{passes:.3g} epochs over {rows:,} examples: expect the loss to step down at each epoch, which is "
                "memorising, not skill.",
                passes=passes, rows=data.rows,
            ),
            remedy,
        )
    if data.duplicates > ALIKE * data.rows:
        return Finding(
            message(
                "{count:,} of {rows:,} examples occur more than once in the data.",
                count=data.duplicates, rows=data.rows,
            ),
            "",
            severity=Severity.note,
        )
    return None


@rule("data.forgetting", "note", source="P21: LlamaFactory #2611 (keep a share of general data), #19 (fewer epochs)")
def check_forgetting(seen: PlanFacts) -> Finding | None:
    """One narrow source, seen more than once, with all weights or at the highest usual rates: what else the model knew
    fades."""
    data, run = seen.data, seen.run
    if (
        data is None
        or not run.stage.next_token
        or len(data.sources) != 1
        or _count_passes(seen, data) <= 1
        or is_trial(seen)
    ):
        return None
    hot = run.optim.lr is not None and run.optim.lr >= (usual(run).high or 1.0)
    if not run.method.whole and not hot:
        return None
    return Finding(
        message(
            "Training all weights for {passes:.3g} epochs on one source makes the model forget others: add general "
            "data as a second data.path, or use each example once.",
            passes=_count_passes(seen, data),
        ) if run.method.whole else message(
            "Training for {passes:.3g} epochs on one source, at the highest usual rate, makes the model forget others: "
            "add general data as a second data.path, or use each example once.",
            passes=_count_passes(seen, data),
        ),
        "trainer.epochs=1" if run.trainer.max_steps is None else "method=lora" if run.method.whole else "",
    )


@rule("data.cache", "note", source="LlamaFactory #3939 (four hours, then a crash), #9344, #3795")
def check_cache(seen: PlanFacts) -> Finding | None:
    """Tokenising takes long, and is done once."""
    data = seen.data
    if data is None or not data.fresh or data.lengths is None:
        return None
    seconds = float(data.lengths.sum()) / A_SECOND
    if seconds <= LONG:
        return None
    return Finding(
        message(
            "Tokenising {count:,} examples takes about {minutes:.0f} minutes. The result is cached under a key of "
            "content, tokenizer and parameters, and reused.",
            count=len(data.lengths), minutes=seconds / 60,
        )
    )


def _describe_policy(policy: str, data: DataFacts) -> UserMessage:
    if policy == "truncate":
        return message("{count:,} are cut", count=data.cut_answers)
    return message("they are dropped") if policy == "drop" else message("data.too_long allows none")


def _suggest_longer(seen: PlanFacts, data: DataFacts) -> str:
    """The 99th percentile if that is longer and the model can read it; else dropping, if answers would be cut."""
    room, rounded = seen.model.max_positions, -(-data.percentile_99 // 64) * 64
    if rounded > data.max_length and (not room or rounded <= room):
        return f"data.max_length={rounded}"
    return "data.too_long=drop" if str(seen.run.data.too_long) == "truncate" else ""


def _count_passes(seen: PlanFacts, data: DataFacts) -> float:
    """Returns how often an example is seen."""
    run = seen.run
    if run.trainer.max_steps is None or not run.trainer.global_batch_size:
        return float(run.trainer.epochs or 1.0)
    an_epoch: int = -(-data.rows // run.trainer.global_batch_size) * run.stage.count_steps_per_rollout()
    return seen.steps / max(1, an_epoch)
