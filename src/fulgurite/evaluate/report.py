"""An evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fulgurite.data.report import Phrases
from fulgurite.evaluate.calibration import CalibrationBin
from fulgurite.evaluate.comparison import Judgements
from fulgurite.evaluate.result import EvalResult
from fulgurite.evaluate.win_rate import WinRate
from fulgurite.language.message import UserMessage, message
from fulgurite.text.layout import count_cells, format_labels, format_table, measure_width, pad, wrap_paragraph

MEANINGS: dict[str, UserMessage] = {
    "perplexity": message("exp(loss): as uncertain as a choice among so many equally likely tokens"),
    "bits_per_byte": message("loss per byte of text, comparable between tokenizers"),
    "accuracy": message("share of examples whose better answer, or label, the model prefers"),
    "reward_margin": message("mean reward of the better answer minus that of the worse one"),
    "calibration_error": message("mean distance of confidence and accuracy; 0 is perfect"),
    "exact_match": message("share of answers equal to the reference"),
    "bleu": message("BLEU, 0 to 100"),
    "chrf": message("chrF, 0 to 100"),
    "rouge1": message("F1 of words, 0 to 1"),
    "rouge2": message("F1 of pairs of words, 0 to 1"),
    "rougel": message("F1 of the longest common subsequence of words, 0 to 1"),
    "call_name": message("share of expected calls with the right function"),
    "call_arguments": message("share of expected calls with the right arguments"),
    "call_correct": message("share of expected calls with both"),
    "calls_missed": message("share of expected calls that were not made"),
    "calls_needless": message("share of answers with more calls than expected"),
    "win_rate": message("share of questions won against the other model, a tie counting half"),
    "win_rate_low": message("lower end of its 95 % interval"),
    "win_rate_high": message("upper end of its 95 % interval"),
    "answer_length": message("mean tokens of an answer"),
    "cut": message("share of answers that the limit of tokens cut"),
}
"""What the numbers mean that do not explain themselves."""
LOSSES = {
    "tokens": message("mean negative log-likelihood of a learned token, in nats"),
    "pairs": message("mean loss of a pair of answers"),
    "judged_answers": message("mean loss of a judged answer"),
}
"""What the loss is the mean of, by the name of its units."""
PARTS = {
    "validation": message("the validation set of the run"), "files": message("the validation files of the data"),
    "all": message("all examples of the data"),
}


def format_result(result: EvalResult, columns: int | None = None) -> str:
    """Returns what was evaluated, a line for each number, and the calibration if there is one."""
    columns = columns or measure_width()
    lines = [wrap_paragraph(str(line), columns) for line in _describe_subject(result)]
    width = max(map(count_cells, result.numbers), default=0)
    units = next((name for name in result.counts if name in LOSSES), "tokens")
    meanings = MEANINGS | {"loss": LOSSES[units]}
    rows = []
    for name, value in result.numbers.items():
        # the meaning of win_rate/exact_match is that of win_rate
        meaning = meanings.get(name, meanings.get(name.partition("/")[0], UserMessage()))
        rows.append((f"{pad(name, width)}  {format_value(value):>9}", str(meaning)))
    text = "\n".join([*lines, format_labels(rows, columns)])
    return "\n\n".join([text, _format_calibration(result.bins)]) if result.bins else text


def format_win_rate(found: Judgements, rate: WinRate, columns: int | None = None) -> str:
    """Returns the win rate of the first model of a judged table, with its interval."""
    columns = columns or measure_width()
    lines = [
        message("{first} against {second}", first=found.first, second=found.second),
        message(
            "win rate {rate:.3f}, 95 % interval {low:.3f} to {high:.3f}", rate=rate.rate, low=rate.low, high=rate.high
        ),
        message("won {wins}, tied {ties}, lost {losses}", wins=rate.wins, ties=rate.ties, losses=rate.losses),
    ]
    if found.unjudged:
        lines.append(message("not judged: {count} rows", count=found.unjudged))
    if rate.low <= 0.5 <= rate.high:
        lines.append(message("The interval contains 0.5: this table does not show which one is better."))
    return "\n".join(wrap_paragraph(str(line), columns) for line in lines)


def format_value(value: float) -> str:
    """Formats a number with four decimals, or four significant digits if it is large."""
    return f"{value:.4f}" if abs(value) < 10_000 else f"{value:.4g}"


def _describe_subject(result: EvalResult) -> list[UserMessage]:
    found = [message("{subject}", subject=result.subject)]
    if result.checkpoint is not None:
        found = [message("{subject}, checkpoint {checkpoint}", subject=result.subject, checkpoint=result.checkpoint)]
    elif result.step == 0:
        found = [message("{subject}, before training", subject=result.subject)]
    if "examples" in result.counts:
        part, examples = PARTS[str(result.data.get("part", "all"))], result.counts["examples"]
        found.append(message("{count:,} examples: {part}", count=examples, part=part))
        found[-1] = UserMessage("{parts}", {"parts": Phrases((found[-1], *_describe_units(result.counts)), "; ")})
    return found


def _describe_units(counts: Mapping[str, int]) -> Iterator[UserMessage]:
    """Yields what the loss is the mean of, if there is one."""
    if "tokens" in counts:
        yield message("{count:,} learned tokens", count=counts["tokens"])
    if "pairs" in counts:
        yield message("{count:,} pairs", count=counts["pairs"])
    if "judged_answers" in counts:
        yield message("{count:,} judged answers", count=counts["judged_answers"])


def _format_calibration(bins: Sequence[CalibrationBin]) -> str:
    heads = [str(head) for head in (
        message("confidence"), message("examples"), message("mean confidence"), message("accuracy"),
    )]
    rows = [
        [f"{one.low:.2f}-{one.high:.2f}", str(one.count), f"{one.confidence:.3f}", f"{one.accuracy:.3f}"]
        for one in bins
    ]
    return format_table(heads, rows)
