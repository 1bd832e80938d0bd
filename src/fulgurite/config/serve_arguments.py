"""The parameters of `fulgurite serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fulgurite.config.arguments import parse
from fulgurite.config.described import DescribedEnum
from fulgurite.config.guard import Allowed, split_allowed
from fulgurite.config.paths import check_run_folder
from fulgurite.config.schema import Empty, at_least, between, knob
from fulgurite.errors import ConfigError


class ServeEngine(DescribedEnum):
    """What computes the answers."""

    transformers = "transformers", "transformers, in this process, one answer at a time; on a CPU or one GPU."
    vllm = "vllm", "`vllm serve` in its place, on an export of the run; for many requests at a time on GPUs."


@dataclass(slots=True)
class Serve:
    """A run behind an HTTP address with OpenAI's interface."""

    room: ClassVar[str] = "serve"

    run: str = knob("", "The run folder whose model answers.", source="Ours", advice="`fulgurite runs` lists them.")
    checkpoint: str = knob(
        "best", "The checkpoint that answers: best, last, or step-N.", source="Ours",
        advice="last, when there was no validation part; best falls back to it.",
    )
    name: str | None = knob(
        None, "The name of the model in requests; a request for another one is refused.",
        source="Ours; the field model of OpenAI's API",
        advice="Give a short one if programs have to write it.", empty=Empty("the name of the run folder"),
    )
    host: str = knob(
        "127.0.0.1", "The address on which the server listens.", source="uvicorn docs, host; loopback: ours",
        advice="Leave it, and reach the server through `ssh -L` or a proxy with TLS. 0.0.0.0 listens on every network "
        "of the machine, and needs a key.",
        misread="There is no TLS here: on another address than the machine's own, the key and all texts are readable "
        "on the way.",
    )
    port: int = knob(
        8000, "The port on which the server listens.", source="Ours; vLLM and transformers serve have the same",
        bounds=between(0, 65535), usual=(8000, 8001, 8080), advice="0 takes a free one, which is printed.",
        leave="Another number only if the port is taken.",
    )
    key_file: str | None = knob(
        None, "A file with the key that requests must send as a bearer token.",
        source="OpenAI's API, authentication; files for secrets: Docker and systemd docs",
        advice="Make one with `openssl rand -hex 32`, and chmod 600. Clients have it as their api_key.",
        empty=Empty("the environment variable FULGURITE_SERVE_KEY; without it no key is asked for"),
        misread="The key itself cannot be given on the command line, which other users of the machine can read.",
    )
    hosts: str | None = knob(
        None, "Further names, with commas between, under which clients may ask: values of the header Host.",
        source="Ours; OWASP on DNS rebinding",
        advice="The public name, if a proxy passes it on, such as llm.example.org.",
        empty=Empty("the names and addresses of this machine on which it listens"),
    )
    origins: str | None = knob(
        None, "Web pages, with commas between, whose scripts may ask: values of the header Origin.",
        source="Ours; the Fetch standard on CORS",
        advice="The page of your own front end, such as https://app.example.org.",
        empty=Empty("no page may ask"),
    )
    temperature: float = knob(
        0.7, "How freely tokens are drawn if a request gives no value; 0 always takes the likeliest.",
        source="Common practice; OpenAI's own default is 1", bounds=between(0, 2), usual=between(0, 1),
        advice="0 for answers that are the same each time.",
        raise_when="For livelier answers.", lower_when="For steadier ones.",
        interacts={"serve.top_p": "lowered, both make draws safer"},
    )
    top_p: float = knob(
        0.9,
        "Tokens are drawn from the likeliest ones that together have this probability, if a request gives no value.",
        source="Nucleus sampling, Holtzman et al., https://arxiv.org/abs/1904.09751",
        bounds=between(0, 1), usual=between(0.8, 1), advice="1 turns it off.",
        raise_when="For livelier answers; 1 turns it off.", lower_when="When odd words appear.",
        interacts={"serve.temperature": "lowered, both make draws safer"},
    )
    max_new_tokens: int = knob(
        512, "How many tokens an answer may have if a request gives no value.", source="Ours, as in chat",
        bounds=at_least(1), usual=between(64, 2048), advice="An answer that hits it has finish_reason=length.",
        raise_when="When answers are cut.", lower_when="When answers ramble.",
        time="In proportion to the length of the answer.",
    )
    engine: ServeEngine = knob(
        ServeEngine.transformers, "What computes the answers: transformers in this process, or vLLM.",
        source="transformers docs, serving; vLLM docs, vllm serve",
        advice="transformers to try a model; vllm for many users at a time on GPUs.",
        time="transformers answers one request after the other.",
    )
    merge: bool = knob(
        True, "With engine=vllm: serve the model with its adapter merged into it; false gives vLLM the adapter apart.",
        source="vLLM docs, LoRA adapters",
        advice="false if vLLM has the base model already, or serves several adapters of it.",
    )
    out: str | None = knob(
        None, "With engine=vllm: the folder of the export that vLLM reads. It is written if it is absent, and kept.",
        source="Ours", advice="Give one if the run folder cannot be written.",
        empty=Empty("a folder below exports in the run folder, named after the checkpoint"),
    )


ONLY = {
    ServeEngine.transformers: ("hosts", "max_new_tokens"),
    ServeEngine.vllm: ("merge", "out"),
}
"""The parameters that only one engine reads."""


def read(words: Sequence[str]) -> tuple[Allowed, Serve]:
    """Returns the permissions and the parameters of a server. Raises RequestError.

    Loads no torch, so that wrong words are refused at once.
    """
    allowed, rest = split_allowed(words)
    config = parse(Serve, rest, "serve")
    if not config.run:
        raise ConfigError("fulgurite serve needs run=<run folder>; `fulgurite runs` lists runs.")
    check_run_folder(config.run, "run")
    usual = Serve()
    for engine, names in ONLY.items():
        given = [name for name in names if getattr(config, name) != getattr(usual, name)]
        if given and config.engine is not engine:
            raise ConfigError(
                "{name} is read with engine={engine} only; leave it out, or choose that engine.",
                name=given[0], engine=engine.value,
            )
    config.name = config.name or Path(config.run).expanduser().resolve().name
    if any(not character.isprintable() for character in config.name):
        raise ConfigError("name={name!r} has characters that cannot be printed; give another name.", name=config.name)
    return allowed, config


def split_list(text: str | None) -> list[str]:
    """Returns the items of a text with commas between them, without blanks."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]
