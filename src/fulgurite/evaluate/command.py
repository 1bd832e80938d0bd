"""`fulgurite eval`: evaluates a run or a model, prints the result, and keeps it in the run folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fulgurite.checkpoint.folder import parse_step
from fulgurite.config.eval_arguments import START, EvalRequest, EvalSettings, read
from fulgurite.config.schema import list_knobs
from fulgurite.data.dataset import AnyRows
from fulgurite.errors import ConfigError, ModelError
from fulgurite.evaluate.generation import Answerer, Decoding, load_rewards, score_answers
from fulgurite.evaluate.held_out import measure_held_out
from fulgurite.evaluate.metrics import find_metrics
from fulgurite.evaluate.questions import read_questions
from fulgurite.evaluate.report import format_result
from fulgurite.evaluate.result import EvalResult, add_result, read_results
from fulgurite.evaluate.subject import Subject, draw_rows, load_model_subject, load_run_subject
from fulgurite.language.message import message
from fulgurite.text.console import say, show

PLACES = ("run", "model", "checkpoint")
"""Parameters that say what is evaluated; the others are kept as the settings of a result."""


def eval_main(words: Sequence[str], as_json: bool = False) -> int:
    """Runs `fulgurite eval`; returns 0. Raises RequestError for a wrong request."""
    request = read(words)
    metrics = find_metrics(request.config.metrics)
    if request.config.run:
        read_results(Path(request.config.run).expanduser())  # a damaged file is refused before anything is computed
    subject = load_subject(request)
    result = evaluate(subject, request.config, metrics)
    plain = result.to_json()
    if subject.folder is not None:
        add_result(subject.folder, plain)
    if as_json:
        print(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        show(format_result(result))
    return 0


def load_subject(request: EvalRequest) -> Subject:
    """Loads the run or the model that a command line names, with its held-out examples."""
    config, allowed = request.config, request.allowed
    if config.run:
        folder = Path(config.run).expanduser()
        return load_run_subject(folder, config.checkpoint, allowed, request.train_words, True)
    return load_model_subject(str(config.model), allowed, request.train_words, config.batch_size, True)


def evaluate(subject: Subject, config: EvalSettings, metrics: Sequence[Any]) -> EvalResult:
    """Measures what the parameters ask for. Raises RequestError."""
    given = {k.name: getattr(config, k.name) for k in list_knobs(EvalSettings) if k.name not in PLACES}
    defaults = {k.name: k.default for k in list_knobs(EvalSettings)}
    result = EvalResult(
        subject.name, None if subject.checkpoint is None else subject.checkpoint.name,
        None if subject.checkpoint is None else parse_step(subject.checkpoint),
        settings={name: value for name, value in given.items() if value != defaults[name]},
    )
    if subject.folder is not None and config.checkpoint == START:
        result.step = 0
    if subject.data is None:
        return result
    data = subject.data
    rows = draw_rows(data.rows, config.max_examples, config.seed)
    describe_data(result, subject, rows)
    if subject.stage is not None:
        found = measure_held_out(subject.stage, rows, subject.tokenizer)
        result.numbers |= found.numbers
        result.counts[name_units(subject)] = found.units
        result.bins = found.bins
    words = list(config.reward) or find_own_rewards(subject)
    if metrics or words:
        measure_answers(result, subject, config, rows, metrics, words)
    return result


def describe_data(result: EvalResult, subject: Subject, rows: AnyRows) -> None:
    """Notes what the result is measured on, and prints what of the data was left out."""
    assert subject.data is not None
    source, report = subject.data.source, subject.data.report
    if subject.data.part != "validation" and (left := report.describe()):
        say(left)
    seal = source.checked.seal.hex() if source.checked is not None else ""
    result.data = {
        "files": [str(path) for path in source.files], "hash": seal, "part": subject.data.part,
        "records": report.rows_in,
    }
    result.counts["examples"] = len({place for i in range(len(rows)) for place in rows.places(i)})


def name_units(subject: Subject) -> str:
    """Returns what the loss of the run's stage is a mean of."""
    stage = subject.run.stage
    if not stage.compares and not stage.gives_rewards:
        return "tokens"
    return "judged_answers" if stage.judged else "pairs"


def find_own_rewards(subject: Subject) -> list[str]:
    """Returns the rewards of a run that learns from its own answers; none for another one.

    Raises ConfigError for a reward that runs the code of a file: the run's folder may come from anywhere.
    """
    if not subject.run.stage.rolls_out:
        return []
    words: list[str] = list(subject.run.stage.reward)
    if code := [word for word in words if ".py" in word]:
        raise ConfigError(
            "The reward {word} of this run is code, which runs only if this command line names it: add "
            "reward=[{words}].",
            word=code[0], words=",".join(words),
        )
    return words


def build_answerer(subject: Subject) -> Answerer:
    """Returns what generates the answers of a subject. Raises ModelError for a reward model."""
    if subject.run.stage.gives_rewards:
        raise ModelError(
            "{run} is a reward model, which scores answers and cannot write any; leave metrics, reward and against "
            "out.",
            run=subject.name,
        )
    kind = subject.device.type
    return Answerer(
        subject.model, subject.tokenizer, subject.template, subject.length, lambda: subject.dtypes.autocast(kind)
    )


def measure_answers(
    result: EvalResult, subject: Subject, config: EvalSettings, rows: AnyRows, metrics: Sequence[Any],
    words: Sequence[str],
) -> None:
    """Adds the numbers of generated answers to the result."""
    assert subject.data is not None
    answerer = build_answerer(subject)
    rewards = load_rewards(words, subject.device)
    questions = read_questions(subject.data.source, rows)
    decoding = Decoding(config.max_new_tokens, config.temperature, config.batch_size, config.seed)
    say(message("Generating answers: {count}", count=len(questions)))
    scored = score_answers(questions, answerer.answer(questions, decoding), metrics, rewards)
    result.numbers |= scored.numbers
    result.counts["answers"] = len(questions)
