"""Tasks of lm-evaluation-harness 0.4, on a model in memory with the template and the stop tokens of its run."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fulgurite.errors import ConfigError, RequestError, suggest_similar
from fulgurite.foreign_code import describe_error, run_foreign

LIBRARY = "lm-eval"
UNREACHABLE = ("ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "DatasetNotFoundError",
    "ConnectTimeout", "ProxyError", "HfHubHTTPError")
"""Names of the errors by which datasets and huggingface_hub report that data are not on this machine."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How tasks are run: `limit` examples of each, `num_fewshot` examples before each question (None for the task's
    own), and the tokens of an answer (None for the task's own)."""

    batch_size: int = 8
    limit: int | None = None
    num_fewshot: int | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TaskResults:
    """The numbers of tasks as `TASK/METRIC`, and what a reader needs to repeat them: versions and examples."""

    numbers: dict[str, float]
    facts: dict[str, Any] = field(default_factory=dict)


def check_library() -> None:
    """Raises ConfigError, before a model is loaded, if lm-evaluation-harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(
            "tasks needs the package {package} (lm-evaluation-harness), which is not installed; install it: pip "
            "install {package}",
            package=LIBRARY,
        )


def find_tasks(names: Sequence[str], folder: Path | None) -> Any:
    """Returns the harness's manager of these tasks; those of the folder come first. Raises ConfigError for an unknown
    task.

    The list of its own 10,000 tasks takes seconds, and is read only if the folder lacks a name.
    """
    from lm_eval.tasks import TaskManager

    include = None if folder is None else str(folder)
    with _quiet(), run_foreign(lambda why: ConfigError(
        "The task files in {folder} cannot be read: {reason}.", folder=folder or LIBRARY, reason=why
    )):
        manager = TaskManager(include_path=include, include_defaults=False) if include is not None else None
        if manager is None or not {*names} <= {*manager.all_tasks}:
            manager = TaskManager(include_path=include)
    for name in names:
        if name not in manager.all_tasks:
            raise ConfigError(
                "lm-evaluation-harness has no task {name}.{hint} Your own tasks need task_folder=<folder>.",
                name=name, hint=suggest_similar(name, manager.all_tasks),
            )
    return manager


def run_tasks(
    model: Any, tokenizer: Any, manager: Any, names: Sequence[str], options: TaskOptions, *, stop_ids: Sequence[int],
    length: int, compute: Any = None, chat: bool = True,
) -> TaskResults:
    """Runs the tasks on the model, on its device. `compute` is the dtype of autocast, None for none; `chat` applies the
    chat template of the tokenizer.

    Raises RequestError if the data of a task are not on this machine and the hub does not answer, or if a task fails.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    more = {"max_gen_toks": options.max_new_tokens} if options.max_new_tokens is not None else None
    with _quiet(), _use_stop_tokens(model, stop_ids), _explain_errors(names):
        lm = HFLM(
            pretrained=model, tokenizer=tokenizer, batch_size=options.batch_size, max_length=length,
            mixed_precision_dtype=compute,
        )
        found: Any = simple_evaluate(
            model=lm, tasks=list(names), task_manager=manager, num_fewshot=options.num_fewshot, limit=options.limit,
            apply_chat_template=chat, bootstrap_iters=0, log_samples=False, gen_kwargs=more,
        )
    rows = {**found["results"], **found.get("groups", {})}
    facts = {"library": version(LIBRARY), "versions": found.get("versions", {}), "num_fewshot": found.get("n-shot", {})}
    return TaskResults(read_numbers(rows), to_plain(facts))


def read_numbers(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Returns the finite numbers of the harness's results, whose names are `METRIC,FILTER`, as `TASK/METRIC`; a filter
    other than `none` is kept."""
    found = {}
    for task, row in rows.items():
        for name, value in row.items():
            metric, comma, kind = name.partition(",")
            is_number = hasattr(value, "__float__") and not isinstance(value, str | bool)
            if not comma or not is_number or not math.isfinite(float(value)):
                continue
            found[f"{task}/{metric}" if kind == "none" else f"{task}/{metric}/{kind}"] = float(value)
    return found


def to_plain(value: Any) -> Any:
    """Returns a value of the harness as JSON can represent it."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "__float__"):
        return float(value) if math.isfinite(float(value)) else None
    return str(value)


@contextlib.contextmanager
def _use_stop_tokens(model: Any, stop_ids: Sequence[int]) -> Iterator[None]:
    """Ends answers at our stop tokens: the harness generates with the model's own generation config, which it only
    extends by the texts of a task's `until`."""
    from transformers import GenerationConfig

    owners = [(module, module.generation_config) for module in model.modules() if "generation_config" in vars(module)]
    for module, _ in owners:
        module.generation_config = GenerationConfig(eos_token_id=list(stop_ids) or None)
    try:
        yield
    finally:
        for module, config in owners:
            module.generation_config = config


@contextlib.contextmanager
def _explain_errors(names: Sequence[str]) -> Iterator[None]:
    """Turns an error of the harness into one sentence."""
    def refuse(why: Any) -> RequestError:
        return RequestError(
            "lm-evaluation-harness could not run {names}: {reason}.", names=", ".join(names), reason=why
        )

    with run_foreign(refuse):
        try:
            yield
        except Exception as error:
            if not _is_unreachable(error):
                raise
            raise RequestError(
                "The data of {names} are not on this machine, and the Hugging Face hub does not answer ({reason}); "
                "download them first, or use tasks over local files (task_folder).",
                names=", ".join(names), reason=describe_error(error),
            ) from error


def _is_unreachable(error: BaseException | None) -> bool:
    while error is not None:
        if any(cls.__name__ in UNREACHABLE for cls in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the harness's own output off stdout, which may be read by a program, and hides its warnings; its bars are
    shown on a terminal only.

    Its results name the commit of the current folder: without a repository git would print an error on the terminal.
    """
    from unittest.mock import patch

    import lm_eval.evaluator

    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nothing,
            contextlib.redirect_stderr(sys.stderr if sys.stderr.isatty() else nothing),
            contextlib.redirect_stdout(nothing),
            # private: lm_eval.evaluator of 0.4.13
            patch.object(lm_eval.evaluator, "get_git_commit_hash", return_value=None),
        ):
            yield
    finally:
        logger.setLevel(level)
