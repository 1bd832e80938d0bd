"""A server of a small model on a free port of this machine, in a thread of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from openai import OpenAI

from fulgurite.config.hosts import listen
from fulgurite.config.serve_arguments import Serve
from fulgurite.data.template import load_template
from fulgurite.model.config import Tiny
from fulgurite.model.tiny import build
from fulgurite.serve.access import build_access
from fulgurite.serve.chat import Partner
from fulgurite.serve.chat_request import Served
from fulgurite.serve.server import build_uvicorn

NAME = "tiny-run"


def make_partner(limit: int = 400) -> Partner:
    """A small random model whose greedy answers vary; its longest input is `limit`."""
    tiny = build(Tiny(hidden=32, layers=1), torch.float32)
    with torch.no_grad():
        draws = torch.Generator().manual_seed(3)
        for weight in tiny.model.parameters():
            weight.normal_(0, 0.7, generator=draws)
    return Partner(tiny.model.eval(), tiny.tokenizer, load_template(None, tiny.tokenizer), limit)


@dataclass(slots=True)
class Live:
    """A running server."""

    port: int
    served: Served
    key: str
    server: Any

    def stop(self) -> None:
        """Asks the server to end, as a signal does."""
        self.server.should_exit = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str | None = None) -> OpenAI:
        """A client that does not try again."""
        key = (self.key or "none") if key is None else key
        return OpenAI(base_url=f"{self.address}/v1", api_key=key, max_retries=0, timeout=60)


@contextlib.contextmanager
def run_server(partner: Partner, config: Serve | None = None, key: str = "") -> Iterator[Live]:
    """Serves a model until the end of the block."""
    config = config or Serve()
    served = Served(NAME, partner, config, created=1_700_000_000)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        server = build_uvicorn(served, build_access(config, port, key))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Live(port, served, key, server)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


class ScriptedModel:
    """Stands for a model: says `text` token by token, then stops. If it is `held`, it waits before its second token
    until `go` is set; if it is `endless`, it repeats its first answer until nobody wants it any more."""

    def __init__(self, partner: Partner, text: str, held: bool = False, endless: bool = False) -> None:
        self.real, self.tokenizer, self.text = partner.model, partner.tokenizer, text
        self.endless = endless
        self.begun, self.go = threading.Event(), threading.Event()
        self.prompts: list[str] = []
        if not held:
            self.go.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self, input_ids: torch.Tensor, streamer: Any, **how: Any) -> torch.Tensor:
        """Returns the prompt and the answer, as transformers does."""
        self.prompts.append(self.tokenizer.decode(input_ids[0]))
        said = [*self.tokenizer(self.text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        streamer.put(input_ids[0])
        while self.endless and len(self.prompts) == 1:
            streamer.put(torch.tensor([said[0]]))
        for number, token in enumerate(said):
            if number:
                self.begun.set()
                assert self.go.wait(60)
            streamer.put(torch.tensor([token]))
        streamer.end()
        return torch.cat([input_ids[0], torch.tensor(said)])[None]


def script(partner: Partner, text: str, **how: bool) -> tuple[Partner, ScriptedModel]:
    """A partner that answers everything with a text, and its model."""
    model = ScriptedModel(partner, text, **how)
    return replace(partner, model=model), model
