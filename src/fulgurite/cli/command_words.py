"""Commands by the names that people know, and the words of `chat`, `eval` and `export` without their parameter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fulgurite.config.schema import list_knobs
from fulgurite.errors import ConfigError, suggest_similar
from fulgurite.foreign_names.table import find_names
from fulgurite.language.message import UserMessage, message

OTHER_COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("fit", "finetune", "fine-tune", "fine_tune", "tune", "run", "start", "pretrain", "launch"),
    "train stage=sft": ("sft",),
    "train stage=dpo": ("dpo",),
    "train stage=rm": ("rm", "reward"),
    "train stage=ppo": ("ppo",),
    "train stage=grpo": ("grpo",),
    "train resume.run=RUN": ("resume", "continue"),
    "train -m optim.lr=1e-4,1e-3": ("sweep", "tune-lr", "hparams", "grid"),
    "train +find=lr": ("lr", "lr-find", "lr_find", "find"),
    "plan": ("check", "dry-run", "dryrun", "dry_run", "estimate", "validate", "memory", "config"),
    "explain": ("doc", "docs", "man", "describe", "what", "info", "guide", "wiki"),
    "explain --search WORD": ("search", "grep"),
    "board": ("webui", "gui", "ui", "web", "webchat", "page", "dashboard", "server"),
    "chat run=RUN": ("infer", "inference", "generate", "predict", "talk", "ask"),
    "eval run=RUN": ("test", "evaluate", "benchmark", "score", "lm-eval", "lm_eval"),
    "serve run=RUN": ("api", "deploy", "openai", "vllm", "endpoint"),
    "export run=RUN out=FOLDER": ("merge", "save", "upload", "push", "convert-model", "merge-lora", "gguf"),
    "average run=A run=B out=FOLDER": ("soup", "model-soup", "avg", "average-checkpoints"),
    "runs": ("list", "ls", "status", "compare", "history", "jobs", "experiments"),
    "--version": ("version", "env", "-v", "-V"),
}
"""What to write for a command of other tools."""


def explain_command(word: str, rest: Sequence[str], commands: Sequence[str]) -> ConfigError:
    """Returns the error for a word that is no command, with what to write."""
    known = next((ours for ours, names in OTHER_COMMANDS.items() if word.lower() in names), None)
    if known is None and ("=" in word or word.lower().endswith((".yaml", ".yml", ".jsonl", ".json")) or "/" in word):
        known = " ".join(["train", word, *rest])
    if known is not None:
        return ConfigError("There is no command {command}. Write `{line}`.", command=word, line=f"fulgurite {known}")
    return ConfigError(
        "There is no command {command}.{hint} The commands are {commands}.",
        command=word, hint=suggest_similar(word, commands), commands=", ".join(commands),
    )


def check_command_words(command: str, declared: type, words: Sequence[str]) -> None:
    """Raises ConfigError, with the whole command, if words of a command lack a parameter or have dashes."""
    knobs = {knob.name for knob in list_knobs(declared)}
    repaired, reason = [], UserMessage()
    left = [word for word in ("run", "out") if word in knobs and not any(w.startswith(f"{word}=") for w in words)]
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        name = _find_parameter(command, name, knobs)
        if word.startswith("-") and name and word not in ("-h", "--help"):
            value = value if equals else (rest.pop(0) if rest and not rest[0].startswith("-") else "true")
            repaired.append(f"{name}={value}")
            reason = reason or message("Parameters are written without dashes, as NAME=VALUE.")
        elif "=" in word and name and word.partition("=")[0] not in knobs and "." not in word.partition("=")[0]:
            repaired.append(f"{name}={value}")
            reason = reason or message("{word} is called {name} here.", word=word.partition("=")[0], name=name)
        elif "=" not in word and not word.startswith("-") and left:
            repaired.append(f"{left.pop(0)}={word}")
            reason = reason or message("{word} is a value without the name of its parameter.", word=word)
        else:
            repaired.append(word)
    for word in words:
        if not reason and word.startswith("run=") and not (Path(word[4:]).expanduser() / "config.yaml").is_file():
            raise ConfigError(
                "{run} is not a run's folder: it has no config.yaml. `fulgurite runs` lists runs.", run=word[4:]
            )
    if reason:
        line = " ".join(["fulgurite", command, *repaired])
        raise ConfigError("{reason} Write `{command}`.", reason=reason, command=line)


def _find_parameter(command: str, name: str, knobs: set[str]) -> str:
    """Returns the command's parameter that a name means; an empty text if it means none."""
    aliases = {"output": "out", "output_dir": "out", "model_name_or_path": "model", "adapter": "run"}
    name = aliases.get(name, name)
    if name in knobs:
        return name
    targets = [target.rpartition(".")[2] for entry in find_names(name) for target in entry.targets
               if target.startswith(f"{command}.")]
    return next((target for target in targets if target in knobs), "")
