"""The help of the commands, from the declarations alone: no Hydra, no torch."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence

from fulgurite import __version__
from fulgurite.language.catalogue import translate_text
from fulgurite.language.message import message
from fulgurite.text.layout import count_cells, wrap

ASKING = frozenset({"-h", "--help"})

WIDEST = 100
"""Columns of the text on a wide terminal."""
COLUMN = re.compile(r" +\S+(?: \S+)*? {2,}(?=\S)")
"""The first column of a line with two, with the blanks after it."""


def asks(words: Sequence[str]) -> bool:
    """Whether a command line asks for help: by a flag, or by the word `help` alone."""
    return not ASKING.isdisjoint(words) or list(words) == ["help"]


def describe_overview() -> str:
    """Returns the help of `fulgurite`."""
    return str(message(
        """fulgurite {version}: fine-tuning in which every parameter explains itself

  fulgurite train [GROUP=OPTION] [NAME=VALUE] ...   fine-tune; without words: LoRA on a bundled model and data, on a CPU
  fulgurite train -m optim.lr=1e-4,1e-3             one run for each value
  fulgurite train resume.run=RUN                    continue a run that was stopped
  fulgurite plan [GROUP=OPTION] [NAME=VALUE] ...    what `train` would do, its cost and mistakes; loads no weights
  fulgurite plan --rules                            the rules that check a run before it begins
  fulgurite explain [NAME|GROUP|GROUP=OPTION]       what it does, what to set it to, why, and the source
  fulgurite explain --search WORD                   the parameters about a word
  fulgurite chat run=RUN                            talk with the trained model
  fulgurite eval run=RUN                            measure it: loss, preferences, answers
  fulgurite export run=RUN out=FOLDER               a folder that plain transformers loads
  fulgurite average run=A run=B out=FOLDER          one model whose weights are the mean of several
  fulgurite serve run=RUN                           an address with OpenAI's interface, which the model answers
  fulgurite convert llamafactory FILE.yaml          another trainer's settings in our words
  fulgurite runs                                    list and compare runs
  fulgurite board [FOLDER ...]                      all of this as a page in the browser

Begin with `fulgurite train`, then `fulgurite explain optim.lr`.
Errors are one line (exit 2); failed training prints the reason (exit 3); Ctrl-C saves first (exit 130), as does SIGTERM
(exit 143).
--lang zh prints Chinese; --debug shows tracebacks.""",
        version=__version__,
    ))


def describe_train() -> str:
    """Returns the help of `fulgurite train`."""
    return str(message(
        """fulgurite train [GROUP=OPTION] [NAME=VALUE] ...

Groups and their options:

{groups}
Presets, each a whole run or a search:
{presets}

  fulgurite train -h NAME    a group, an option (optim=adamw)
                             or a parameter (optim.lr)
  fulgurite train -m A=1,2   one run for each value
  fulgurite train -v         print every value and its reason
  fulgurite train --cfg job  the composed config
  --config-dir DIR           a folder of your own options

`fulgurite explain` has what each of them does and its usual values.""",
        groups=_groups(), presets=_presets(),
    ))


def describe_chat() -> str:
    """Returns the help of `fulgurite chat`."""
    from fulgurite.config.chat_arguments import ChatConfig
    from fulgurite.config.schema import list_knobs

    lines = [
        f"  {knob.name:15} {translate_text(knob.path, 'meaning', knob.meaning)} [{knob.default}]"
        for knob in list_knobs(ChatConfig)
    ]
    return str(message(
        """fulgurite chat run=RUN | model=FOLDER_OR_OPTION [NAME=VALUE ...]

Talks with what a run has trained, or with a model. Questions may be piped in, one a line.
While you chat: /help lists the commands, such as /reset (forgets the conversation) and /quit (leaves; so does Ctrl-D).
Ctrl-C stops an answer.
Code that a run's config.yaml names (plugins=[...], model.trust_remote_code=true with model.revision=...) runs only if
you add those words here.

{parameters}""",
        parameters="\n".join(lines),
    ))


def describe_export() -> str:
    """The help of `fulgurite export`."""
    from fulgurite.config.arguments import format_usage
    from fulgurite.config.export_arguments import Export

    return format_usage(Export, "export")


def describe_average() -> str:
    """Returns the help of `fulgurite average`."""
    from fulgurite.config.arguments import format_usage
    from fulgurite.config.average_arguments import Average

    return format_usage(Average, "average")


def describe_eval() -> str:
    """The help of `fulgurite eval`."""
    from fulgurite.config.eval_arguments import EvalSettings
    from fulgurite.config.schema import list_knobs

    lines = [
        f"  {knob.name:14} {translate_text(knob.path, 'meaning', knob.meaning)}" for knob in list_knobs(EvalSettings)
    ]
    return str(message(
        """fulgurite eval run=RUN | model=FOLDER_OR_OPTION [NAME=VALUE ...] [data=... data.NAME=VALUE ...] [--json]

Measures a run on its validation set, or on the data that words of `fulgurite train` name:

  fulgurite eval run=RUN                                   loss, perplexity, bits per byte; of pairs the accuracy
  fulgurite eval run=RUN data=file data.path=FILE          the same on other data, with the run's template
  fulgurite eval run=RUN metrics=exact_match,chrf          answers beside the reference answers
  fulgurite eval run=RUN tasks=NAME task_folder=FOLDER     tasks of lm-evaluation-harness
  fulgurite eval run=RUN against=start                     two models side by side, in a table to be judged blind
  fulgurite eval judged=TABLE.csv                          the win rate of a judged table

{parameters}

--json prints JSON, for programs. The results of a run are kept in its eval.json.""",
        parameters="\n".join(lines),

    ))


def describe_serve() -> str:
    """Returns the help of `fulgurite serve`."""
    from fulgurite.config.arguments import format_usage
    from fulgurite.config.serve_arguments import Serve

    return str(message(
        """{usage}

Serves POST /v1/chat/completions and GET /v1/models, as OpenAI's API has them, with the chat template, the stop tokens
and the precision of the run. An adapter stays beside its base. Clients get the address as their base_url.
A key is set in the environment variable FULGURITE_SERVE_KEY or a file, never here. Ctrl-C ends it.""",
        usage=format_usage(Serve, "serve"),
    ))


def fit_help(text: str, columns: int) -> str:
    """Wraps the lines of a help that are wider than the terminal; a second column stays a column."""
    lines = []
    for line in text.split("\n"):
        if count_cells(line) <= columns:
            lines.append(line)
            continue
        found = COLUMN.match(line)
        head = found[0] if found else " " * (len(line) - len(line.lstrip()))
        if 2 * count_cells(head) > columns:
            # The first column takes half of the terminal: the second goes below it.
            lines.append(head.rstrip())
            lines.append(wrap(line[len(head) :], columns, " " * 6, " " * 6))
        else:
            lines.append(wrap(line[len(head) :], columns, head, " " * count_cells(head)))
    return "\n".join(lines)


def _groups() -> str:
    from fulgurite.config.choices import list_names
    from fulgurite.config.run import GROUPS, load_options

    load_options()
    lines = []
    for group in GROUPS:
        names = textwrap.wrap(", ".join(list_names(group)), _width() - 13)
        lines += [f"  {group:10} {names[0]}", *(f"  {'':10} {line}" for line in names[1:])]
    return "\n".join(lines) + "\n"


def _presets() -> str:
    from fulgurite.config.paths import find_conf_dir

    found = [
        f"+{kind}={path.stem}"
        for kind in ("experiment", "sweep", "find")
        for path in sorted((find_conf_dir() / kind).glob("*.yaml"))
    ]
    return textwrap.fill(", ".join(found), _width(), initial_indent="  ", subsequent_indent="  ")


def _width() -> int:
    return max(40, min(WIDEST, shutil.get_terminal_size().columns))
