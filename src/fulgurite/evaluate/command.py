"""`fulgurite eval`: evaluates a run or a model, prints the result, and keeps it in the run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fulgurite.checkpoint.folder import parse_step
from fulgurite.config.eval_arguments import START, EvalRequest, EvalSettings, find_table, read
from fulgurite.config.guard import Allowed
from fulgurite.config.schema import list_knobs
from fulgurite.data.dataset import AnyRows
from fulgurite.errors import ConfigError, ModelError
from fulgurite.evaluate.comparison import Judgements, compare_numbers, name_key, read_judgements, write_comparison
from fulgurite.evaluate.generation import Answerer, Decoding, Scored, load_rewards, score_answers
from fulgurite.evaluate.harness import TaskOptions, check_library, find_tasks, run_tasks
from fulgurite.evaluate.held_out import measure_held_out
from fulgurite.evaluate.metrics import TextMetric, find_metrics
from fulgurite.evaluate.questions import HeldOutQuestion, read_questions
from fulgurite.evaluate.report import format_result, format_win_rate
from fulgurite.evaluate.result import EvalResult, add_result, read_results
from fulgurite.evaluate.subject import Subject, draw_rows, load_model_subject, load_run_subject
from fulgurite.evaluate.trackers import send_to_trackers
from fulgurite.evaluate.win_rate import LEVEL, WinRate, compute_win_rate, flatten
from fulgurite.language.message import message
from fulgurite.run.sources import is_run
from fulgurite.stage.reward_functions import Reward
from fulgurite.text.console import say, show

PLACES = ("run", "model", "checkpoint", "out", "judged")
"""Parameters that say what is evaluated; the others are kept as the settings of a result."""


def eval_main(words: Sequence[str], as_json: bool = False) -> int:
    """Runs `fulgurite eval`; returns 0. Raises RequestError for a wrong request."""
    request = read(words)
    if request.config.judged is not None:
        return judge_main(Path(request.config.judged).expanduser(), request.config.seed, as_json)
    metrics = find_metrics(request.config.metrics)
    manager = None
    if request.config.tasks:
        check_library()
        folder = request.config.task_folder
        manager = find_tasks(request.config.tasks, None if folder is None else Path(folder).expanduser())
    if request.config.run:
        read_results(Path(request.config.run).expanduser())  # a damaged file is refused before anything is computed
    subject = load_subject(request)
    result = evaluate(subject, request.config, metrics, request.allowed, manager)
    plain = result.to_json()
    if subject.folder is not None:
        add_result(subject.folder, plain)
        send_to_trackers(subject, result)
    if as_json:
        print(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        show(format_result(result))
    return 0


def load_subject(request: EvalRequest) -> Subject:
    """Loads the run or the model that a command line names, with its held-out examples."""
    config, allowed = request.config, request.allowed
    needs_data = not config.tasks or bool(config.metrics or config.reward or config.against or request.train_words)
    if config.run:
        folder = Path(config.run).expanduser()
        return load_run_subject(folder, config.checkpoint, allowed, request.train_words, needs_data)
    return load_model_subject(str(config.model), allowed, request.train_words, config.batch_size, needs_data)


def evaluate(
    subject: Subject, config: EvalSettings, metrics: Sequence[TextMetric], allowed: Allowed, manager: Any = None
) -> EvalResult:
    """Measures what the parameters ask for; `manager` has the tasks of lm-evaluation-harness. Raises RequestError."""
    given = {k.name: getattr(config, k.name) for k in list_knobs(EvalSettings) if k.name not in PLACES}
    defaults = {k.name: k.default for k in list_knobs(EvalSettings)}
    result = EvalResult(
        subject.name, None if subject.checkpoint is None else subject.checkpoint.name,
        None if subject.checkpoint is None else parse_step(subject.checkpoint),
        settings={name: value for name, value in given.items() if value != defaults[name]},
    )
    if subject.folder is not None and config.checkpoint == START:
        result.step = 0
    if manager is not None:
        measure_tasks(result, subject, config, manager)
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
    if metrics or words or config.against is not None:
        measure_answers(result, subject, config, rows, metrics, words, allowed)
    return result


def describe_data(result: EvalResult, subject: Subject, rows: AnyRows) -> None:
    """Notes what the result is measured on, and prints what of the data was left out."""
    assert subject.data is not None
    source, report = subject.data.source, subject.data.report
    if subject.data.part != "validation" and (left := report.describe()):
        say(left)
    seal = source.checked.seal.hex() if source.checked is not None else ""
    result.data |= {
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


def measure_tasks(result: EvalResult, subject: Subject, config: EvalSettings, manager: Any) -> None:
    """Adds the numbers of the tasks of lm-evaluation-harness to the result. Raises ModelError for a reward model."""
    answerer, stage = build_answerer(subject), subject.run.stage
    given = config.max_new_tokens if "max_new_tokens" in result.settings else None
    options = TaskOptions(config.batch_size, config.max_examples, config.num_fewshot, given)
    found = run_tasks(
        answerer.model, answerer.tokenizer, manager, config.tasks, options, stop_ids=answerer.template.stop_ids,
        length=answerer.length, compute=subject.dtypes.compute if subject.dtypes.mixed else None,
        chat=not stage.reads.running_text,
    )
    result.numbers |= found.numbers
    result.data["tasks"] = found.facts


def measure_answers(
    result: EvalResult, subject: Subject, config: EvalSettings, rows: AnyRows, metrics: Sequence[TextMetric],
    words: Sequence[str], allowed: Allowed,
) -> None:
    """Adds the numbers of generated answers to the result, and compares them with those of another model."""
    assert subject.data is not None
    rewards = load_rewards(words, subject.device)
    questions = read_questions(subject.data.source, rows, config.turns)
    scored = answer_questions(subject, questions, config, metrics, rewards)
    result.numbers |= scored.numbers
    result.counts["answers"] = len(questions)
    if config.against is None:
        return
    folder, start = (config.run, True) if config.against == START else (config.against, False)
    subject.release()
    other = load_run_subject(Path(folder).expanduser(), START if start else "best", allowed, [], False)
    second = answer_questions(other, questions, config, metrics, rewards)
    table = find_table(config)
    names = name_checkpoint(subject), name_checkpoint(other)
    texts = [[answer.text for answer in one.answers] for one in (scored, second)]
    write_comparison(table, questions, (names[0], texts[0]), (names[1], texts[1]), config.seed)
    result.comparison = {"against": names[1], "table": str(table.absolute())}
    lower = [name for metric in metrics for name in metric.lower_wins]
    for name, outcomes in compare_numbers(scored.each, second.each, lower).items():
        result.numbers |= flatten(compute_win_rate(outcomes, config.seed), f"/{name}")
    command = f"fulgurite eval judged={table}"
    say(message(
        "Wrote {table}, to be judged blind, and its key {key}. Then: {command}",
        table=table, key=name_key(table).name, command=command,
    ))


def answer_questions(
    subject: Subject, questions: Sequence[HeldOutQuestion], config: EvalSettings, metrics: Sequence[TextMetric],
    rewards: Sequence[Reward],
) -> Scored:
    """Generates and scores the answers of a subject."""
    answerer = build_answerer(subject)
    decoding = Decoding(config.max_new_tokens, config.temperature, config.batch_size, config.seed)
    say(message("Generating answers: {count}", count=len(questions)))
    return score_answers(questions, answerer.answer(questions, decoding), metrics, rewards)


def name_checkpoint(subject: Subject) -> str:
    """Returns the name of a subject with its checkpoint, for the key of a comparison."""
    if subject.folder is None:
        return subject.name
    return f"{subject.folder.absolute()}:{START if subject.checkpoint is None else subject.checkpoint.name}"


def keep_judgement(path: Path, found: Judgements, rate: WinRate) -> None:
    """Adds the win rate of a judged table to eval.json of the first model, if that is a run. Raises RequestError."""
    name, _, checkpoint = found.first.rpartition(":")
    folder = Path(name)
    if not name or not is_run(folder):
        return
    started = checkpoint == START
    result = EvalResult(
        name, None if started else checkpoint, 0 if started else parse_step(Path(checkpoint)), numbers=flatten(rate),
        counts={"judged": len(found.outcomes), "unjudged": found.unjudged}, data={"part": "table"},
        comparison={"against": found.second, "table": str(path.absolute())},
    )
    add_result(folder, result.to_json())


def judge_main(path: Path, seed: int, as_json: bool) -> int:
    """Prints the win rate of a judged table; returns 0. Raises RequestError."""
    found = read_judgements(path)
    rate = compute_win_rate(found.outcomes, seed)
    keep_judgement(path, found, rate)
    if as_json:
        plain = dataclasses.asdict(rate) | {
            "first": found.first, "second": found.second, "unjudged": found.unjudged, "level": LEVEL,
        }
        print(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        show(format_win_rate(found, rate))
    return 0
