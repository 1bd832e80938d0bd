"""The door of the command line: whatever is typed is either a run or one sentence of ours, never a traceback."""

from __future__ import annotations

import contextlib
import random
import re
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fulgurite.config.check_value import check
from fulgurite.config.compose import NOT_COMPOSED, compose
from fulgurite.config.override_checks import prepare
from fulgurite.config.override_names import read_name
from fulgurite.config.overrides import read_value
from fulgurite.config.run import GROUPS, list_all_knobs
from fulgurite.config.schema import Knob, list_groups, list_options
from fulgurite.errors import ConfigError, FulguriteError

KNOBS = {k.path: k for k in list_all_knobs()}
DIGITS = "9" * 5000

REFUSED = [
    ("method=1.5", "method=1.5 is not allowed: method is one of "),
    ("optim=null", "optim=null is not allowed: optim is one of"),
    ("precision=true", "precision is one of auto, bf16"), ("optim=3", "optim is one of adafactor"),
    ("optim=[adamw]", "a run has only one optim; use optim=adamw"), ("logger=null", "logger is one of csv"),
    ("optim={a: b}", "optim is one of adafactor"),
    ("+logger=[{_target_: os.system}]", "logger is one of csv, mlflow, none, tensorboard, trackio, wandb"),
    ("+logger={_target_: os.system}", "logger is one of csv"), ("experiment=3", "experiment is one of dpo_guide"),
    (f"seed={DIGITS}", "a number has too many digits"), (f"optim.lr={DIGITS}", "a number has too many digits"),
    (f"optim.lr={DIGITS[:4000]}", "optim.lr"), ("trainer.max_steps=" + DIGITS[:30], "it has more than 18 digits"),
    ("trainer.epochs=inf", "must be a finite number; or leave it out"),
    ("trainer.epochs=1e308", "it must be 0 to 1000000"),
    ("method.alpha=inf", "finite number"), ("method.alpha=nan", "finite number"), ("++optim.lr=-inf", "finite number"),
    ("data=file data.weights=[inf]", "data.weights=inf is not allowed: it must be a finite number"),
    ("optim.betas=[1e400,0]", "finite number"), ("method.alpha_pattern={a: inf}", "finite number"),
    ("method.rank_pattern={a: -5}", "it must be 1 to 1024"), ("stage.loss=1", "it must be one of nll, dft"),
    ("data.columns=[1]", "data.columns is not a parameter of the chosen data; it belongs to data=file"),
    ("optim.lr=" + "[" * 3000, "cannot be read"),
    ("model=Qwen/Qwen2.5-0.5B-Instruct", "Write model=hf model.path=Qwen/Qwen2.5-0.5B-Instruct."),
    ("model=./mine", "Write model=hf model.path=./mine."), ("data=mine.jsonl", "Write data=file data.path=mine.jsonl."),
    ("data=folder/x.jsonl", "Write data=file data.path=folder/x.jsonl."),
    ("data=tatsu-lab/alpaca", "Write data=file data.path=hub:tatsu-lab/alpaca."),
    ("optim=adamv", "Did you mean adamw"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words[:40] for words, _ in REFUSED])
def test_an_impossible_value_is_refused_in_one_sentence(words: str, said: str) -> None:
    split = words.split() if words.startswith("data=file") else [words]
    with pytest.raises(ConfigError) as caught:
        compose(split)
    assert said in str(caught.value)


VALUES = [
    "1", "-1", "0", "1e3", "1e400", "-1e308", "inf", "-inf", "nan", "null", "true",
    "'x'", '"x"', "", "[]", "[1,inf]", "{}",
    "{a: 1}", "{a: inf}", "a,b", "a b", "\n", "a\nb", "\x1b[31m", "\u202e", "${x}", "${oc.env:HOME}", "$(id)", "`id`",
    "../..",
    "[[[[", "{{{", "'",
    "\\", "é", "💥", "[{_target_: os.system}]", "{_target_: os.system}", DIGITS, "1_0", "0x10", "1.5.5", "choice(1,2)",
    "range(1,3)",
    "interval(0,1)", "[null]", "x" * 5000, "\0", "---", "*a", "&a b", "!!python/object:os.system", "%", "=", "a=b", "~",
    "[1,2,3,4,5]",
    "9223372036854775808",
]
NAMES = [
    "optim", "method", "logger", "experiment", "nothing", "optim.nothing", "hydra.run.dir", "hydra.job.name", "optim/x",
    "a[0]", "",
    ".",
]


def overrides(count: int) -> list[str]:
    """Seeded overrides: each parameter and group, some other names, under values of all kinds."""
    draw = random.Random(13)
    names = [*KNOBS, *GROUPS, *NAMES]
    prefixes = ["", "", "", "", "+", "++", "~"]
    return [f"{draw.choice(prefixes)}{draw.choice(names)}={draw.choice(VALUES)}" for _ in range(count)]


def settle(word: str, prepared: str) -> None:
    """Give the value to the option that has the parameter, as composing does, and check it; raises ConfigError."""
    knob: Knob | None = KNOBS.get(read_name(word))
    if knob is None or not knob.option:
        return
    cls = list_options(knob.group.partition(".")[0])[knob.option]
    node = OmegaConf.structured(cls)
    try:
        OmegaConf.update(node, knob.name, read_value(prepared.partition("=")[2]))
        found: Any = OmegaConf.to_object(node)
    except (OmegaConfBaseException, *NOT_COMPOSED) as error:
        raise ConfigError("refused by its type") from error
    check(knob, getattr(found, knob.name))


def test_1000_random_overrides_are_values_or_refusals() -> None:
    taken = 0
    for word in overrides(1000):
        with contextlib.suppress(FulguriteError):  # a sentence of ours; anything else fails the test
            [prepared] = prepare([word])
            settle(word, prepared)
            taken += 1
    assert 50 < taken < 950  # else nothing was tried


def test_40_random_overrides_compose_or_are_refused() -> None:
    for word in overrides(40):
        with contextlib.suppress(FulguriteError):
            compose([word])


def test_every_numeric_parameter_refuses_infinity_and_nan() -> None:
    """Not a list of names: each parameter that is a number refuses infinity and NaN, whatever its bounds."""
    for knob in KNOBS.values():
        kind = str(knob.type)
        if "float" not in kind and "int" not in kind:
            continue
        for bad in (float("inf"), float("-inf"), float("nan")):
            value = [bad] * len(knob.default or [bad]) if "list" in kind else {"a": bad} if "dict" in kind else bad
            with pytest.raises(ConfigError):
                check(knob, value)


NAMED = "|".join(re.escape(name) for name in sorted({*KNOBS, *list_groups(), "find"}, key=len, reverse=True))
CHOSEN = re.compile(rf"(?<![\w./\-])(\+?(?:{NAMED})=(?:'[^']*'|\"[^\"]*\"|\[[^\]]*\]|[^\s,;:)`|'\"(<]++))(?!\()")
TEXTS = ("meaning", "source", "advice", "raise_when", "lower_when", "leave", "memory", "time", "misread")


def examples() -> list[str]:
    """Every `GROUP=OPTION` and `KNOB=VALUE` in the texts that `explain` shows."""
    texts = [str(getattr(knob, text)) for knob in list_all_knobs() for text in TEXTS]
    texts += [word for knob in list_all_knobs() for word in knob.interacts.values()]
    texts += [knob.empty.words for knob in list_all_knobs() if knob.empty is not None]
    for found in list_groups().values():
        texts += [f"{cls.__doc__ or ''} {cls.costs} {cls.misread}" for cls in found.values()]
    words = {match.rstrip(".") for text in texts for match in CHOSEN.findall(text)}
    return sorted({word for word in words if not word.endswith("=")} | {"method.trainable=layers:2,5-7",
        "method.trainable=last:2"})


def of_options(word: str) -> list[list[str]]:
    """The word under each option that has the parameter."""
    owners = {(k.group, k.option) for k in list_all_knobs() if k.path == read_name(word) and k.option}
    return [[f"{group.partition('.')[0]}={option}", word] for group, option in sorted(owners)] or [[word]]


def test_more_than_15_examples_are_found() -> None:
    assert len(examples()) > 15


@pytest.mark.parametrize("word", examples())
def test_every_example_of_explain_can_be_typed(word: str) -> None:
    as_shell = word.replace("'", "", 2) if re.search("='.*'$", word) else word  # the shell takes the outer quotes off
    words = of_options(as_shell)
    refused = []
    for chosen in words:
        try:
            compose(chosen)
            return
        except ConfigError as error:  # another option's parameter may have the same name and another type
            refused.append(str(error))
    pytest.fail(str(refused))
