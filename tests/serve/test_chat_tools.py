"""Functions in a chat: the call is shown, the result is given back, and the model goes on."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from tests.data.made_templates import HERMES, MISTRAL

from fulgurite.config.chat_arguments import ChatConfig
from fulgurite.data.example import Conversation, Message
from fulgurite.data.template import load_template
from fulgurite.model.config import Tiny
from fulgurite.model.tiny import build
from fulgurite.serve.chat import ChatSession, Partner
from fulgurite.serve.toolbox import Toolbox

TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather\nof a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "the city"}}, "required": ["city"],
}}}
BERN = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}


class Scripted:
    """Stands for a model: gives the answers in `words` one after the other, and keeps what it was asked."""

    def __init__(self, partner: Partner, words: list[str | BaseException]) -> None:
        self.real, self.tokenizer, self.words = partner.model, partner.tokenizer, list(words)
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self, input_ids: torch.Tensor, streamer: Any, **how: Any) -> torch.Tensor:
        self.asked.append(self.tokenizer.decode(input_ids[0]))
        word = self.words.pop(0)
        said = [*self.tokenizer(word)["input_ids"], self.tokenizer.eos_token_id] if isinstance(word, str) else []
        streamer.put(input_ids[0])
        for token in said:
            streamer.put(torch.tensor([token]))
        if isinstance(word, BaseException):
            raise word
        streamer.end()
        return torch.cat([input_ids[0], torch.tensor(said)])[None]


@pytest.fixture(scope="module")
def partner() -> Partner:
    tiny = build(Tiny(hidden=32, layers=1), torch.float32)
    tiny.tokenizer.chat_template = HERMES
    return Partner(tiny.model, tiny.tokenizer, load_template(None, tiny.tokenizer), 4000)


def talk(
    partner: Partner, lines: str, words: list[str | BaseException], function: Any = None, **how: Any
) -> tuple[str, list[str]]:
    """What is written when `lines` are piped in, and what the model was asked."""
    model, out = Scripted(partner, words), io.StringIO()
    config = ChatConfig(model="x", temperature=0.0)
    for name, value in how.items():
        setattr(config, name, value)
    scripted = Partner(model, partner.tokenizer, partner.template, partner.limit)
    box = Toolbox((TOOL,), {"weather": function} if function else {})
    assert ChatSession(scripted, config, out, box).hold(io.StringIO(lines)) == 0
    return out.getvalue(), model.asked


def prompt(partner: Partner, *messages: Message) -> str:
    return str(partner.tokenizer.decode(partner.template.encode_prompt(Conversation(messages, (TOOL,)))))


def test_a_function_answers_the_call(partner: Partner) -> None:
    text, asked = talk(partner, "Weather?\n", [f"Let me look.\n{BERN}", "Sunny."], lambda city: f"sun in {city}")
    assert text == (
        '> Weather?\nLet me look.\n  weather(city="Bern")\n  weather = sun in Bern\nSunny.\n'
    )
    question = Message("user", "Weather?")
    assert asked[0] == prompt(partner, question)
    assert asked[1] == prompt(
        partner, question, Message("assistant", "Let me look.", (CALL,)),
        Message("tool", "sun in Bern", name="weather"),
    )


def test_a_person_types_the_result(partner: Partner) -> None:
    text, asked = talk(partner, "Weather?\nRain, 5°\nAnd now?\n", [BERN, "Wet.", "Dry."])
    assert text == '> Weather?\n  weather(city="Bern")\n  weather = Rain, 5°\nWet.\n> And now?\nDry.\n'
    assert asked[2] == prompt(
        partner, Message("user", "Weather?"), Message("assistant", "", (CALL,)),
        Message("tool", "Rain, 5°", name="weather"), Message("assistant", "Wet."), Message("user", "And now?"),
    )


def test_several_calls_have_a_result_each(partner: Partner) -> None:
    chur = BERN.replace("Bern", "Chur")
    text, asked = talk(partner, "Weather?\n", [f"{BERN}\n{chur}", "Done."], lambda city: city.upper())
    assert '  weather(city="Bern")\n  weather(city="Chur")\n  weather = BERN\n  weather = CHUR\nDone.' in text
    assert asked[1].index("BERN") < asked[1].index("CHUR")


def test_an_error_of_a_function_goes_back_to_the_model(partner: Partner) -> None:
    def fail(city: str) -> str:
        raise OSError("no network")

    text, asked = talk(partner, "Weather?\n", [BERN, "Sorry."], fail)
    assert "  weather = Error: OSError: no network\nSorry.\n" in text
    assert "no network" in asked[1]


def test_rounds_are_limited(partner: Partner) -> None:
    text, asked = talk(partner, "Weather?\nWhy?\n", [BERN, BERN, BERN, "Because."], lambda city: "sun", tool_rounds=2)
    assert len(asked) == 4
    assert "(stopped after tool_rounds=2)" in text
    # The last call is not made, but the model sees that it wrote it.
    assert asked[3].count('"arguments": {"city": "Bern"}') == 3
    assert text.endswith("> Why?\nBecause.\n")


def test_a_damaged_call_is_named_and_stays_text(partner: Partner) -> None:
    broken = '<tool_call>\n{"name": "weather", "arguments": {city}}\n</tool_call>'
    text, asked = talk(partner, "Weather?\nWhy?\n", [broken, "Because."], lambda city: "sun")
    assert text.startswith(f"> Weather?\n{broken}\n(a call cannot be read: not JSON")
    assert "{city}" in asked[1]


def test_a_conversation_that_ends_at_a_call_is_dropped(partner: Partner) -> None:
    text, _ = talk(partner, "Weather?\n", [BERN])
    assert text.endswith("(stopped; the question and its calls are dropped)\n")


def test_ctrl_c_in_a_function_or_an_answer(partner: Partner) -> None:
    def stop(city: str) -> str:
        raise KeyboardInterrupt

    text, asked = talk(partner, "Weather?\nWhy?\n", [BERN, "Because."], stop)
    assert "(stopped; the question and its calls are dropped)" in text
    assert "Weather?" not in asked[1]
    text, asked = talk(partner, "Weather?\nWhy?\n", [KeyboardInterrupt(), "Because."])
    assert "(stopped)" in text


def test_results_that_do_not_fit_are_refused(partner: Partner) -> None:
    text, asked = talk(partner, "Weather?\n", [BERN], lambda city: "sun " * 3000)
    assert len(asked) == 1
    assert "the model can read at most 4000" in text


def test_old_turns_are_dropped_with_their_calls(partner: Partner) -> None:
    # Room for the call and its result, but not for another question after them.
    said = (Message("user", "Weather?"), Message("assistant", "", (CALL,)), Message("tool", "sun", name="weather"))
    whole = len(partner.template.encode_prompt(Conversation(said, (TOOL,))))
    short = Partner(partner.model, partner.tokenizer, partner.template, whole + 3)
    text, asked = talk(short, "Weather?\nWhy?\n", [BERN, "Sun.", "Because."], lambda city: "sun")
    assert "the oldest 1 turns" in text
    assert asked[2] == prompt(partner, Message("user", "Why?"))


def test_calls_are_named_for_templates_that_need_it(partner: Partner) -> None:
    """Mistral's template refuses a call without an id of nine characters, and writes the id of a result."""
    tokenizer = copy.deepcopy(partner.tokenizer)
    tokenizer.chat_template = MISTRAL
    mistral = Partner(partner.model, tokenizer, load_template(None, tokenizer), 4000)
    written = '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bern"}}]'
    text, asked = talk(mistral, "Weather?\n", [written, "Sunny."], lambda city: "5")
    assert text.endswith('  weather(city="Bern")\n  weather = 5\nSunny.\n')
    assert '"id": "call01000"}]' in asked[1]
    assert '{"content": 5, "call_id": "call01000"}' in asked[1]


def test_a_template_without_a_place_for_results_is_one_sentence(partner: Partner) -> None:
    tokenizer = copy.deepcopy(partner.tokenizer)
    strict = Partner(partner.model, tokenizer, load_template("alpaca", tokenizer), 4000)
    written = '{"name": "weather", "arguments": {"city": "Bern"}}'
    text, asked = talk(strict, "Weather?\nWhy?\n", [written, "Because."], lambda city: "5")
    assert "alpaca has no role tool" in text
    assert text.endswith("> Why?\nBecause.\n")
    assert "Weather?" not in asked[1]


def test_the_commands_list_functions_and_commands(partner: Partner) -> None:
    text, _ = talk(partner, "/tools\n/help\n", [])
    assert text.startswith("  weather: The weather of a city.\n/reset ")
    assert "/quit" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_person_at_a_terminal_is_asked_for_the_result(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["Weather?", " sun ", "/quit"])
    prompts = []

    def ask(prompt: str = "") -> str:
        prompts.append(prompt)
        return next(typed)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("builtins.input", ask)
    model, out = Scripted(partner, [BERN, "Sunny."]), io.StringIO()
    scripted = Partner(model, partner.tokenizer, partner.template, partner.limit)
    ChatSession(scripted, ChatConfig(model="x"), out, Toolbox((TOOL,))).hold(Terminal())
    assert prompts == ["> ", "  weather = ", "> "]
    assert "weather = sun" not in out.getvalue()
    assert "sun" in model.asked[1]
