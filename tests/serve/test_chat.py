"""`fulgurite chat`: its words, its turns, and what it does when interrupted."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fulgurite.config.schema import list_knobs
from fulgurite.data.example import Message
from fulgurite.data.template import load_template
from fulgurite.errors import ConfigError, ModelError
from fulgurite.model.config import Tiny
from fulgurite.model.generate import generate
from fulgurite.model.tiny import build
from fulgurite.serve import chat
from fulgurite.serve.chat import ChatConfig, ChatSession, Partner, chat_main, read


@pytest.fixture(scope="module")
def partner() -> Partner:
    tiny = build(Tiny(hidden=32, layers=1), torch.float32)
    return Partner(tiny.model, tiny.tokenizer, load_template(None, tiny.tokenizer), 400)


def talk(partner: Partner, lines: str, **how: Any) -> str:
    """What is written when `lines` are piped in; greedy, five tokens an answer."""
    out = io.StringIO()
    config = ChatConfig(model="x", temperature=0.0, max_new_tokens=5)
    for name, value in how.items():
        setattr(config, name, value)
    assert ChatSession(partner, config, out).hold(io.StringIO(lines)) == 0
    return out.getvalue()


def answer(partner: Partner, *turns: tuple[str, str]) -> str:
    """The greedy answer to these turns, asked directly."""
    messages = [Message(role, text) for role, text in turns]
    return generate(partner.model, partner.tokenizer, partner.template, messages, max_new_tokens=5).text


def test_a_piped_question_is_answered_as_by_generate(partner: Partner) -> None:
    expected = answer(partner, ("user", "What is a warmup?"))
    shown = f"> What is a warmup?\n{expected.lstrip()} (cut at max_new_tokens=5)\n"
    assert talk(partner, "What is a warmup?\n") == shown


class Scripted:
    """Stands for a model: says `words` to everything, then stops or is interrupted, and keeps what it was asked."""

    def __init__(self, partner: Partner, words: str = "An answer.", error: BaseException | None = None) -> None:
        self.real, self.tokenizer, self.words, self.error = partner.model, partner.tokenizer, words, error
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self, input_ids: torch.Tensor, streamer: Any, **how: Any) -> torch.Tensor:
        self.asked.append(self.tokenizer.decode(input_ids[0]))
        said = torch.tensor(self.tokenizer(self.words)["input_ids"])
        streamer.put(input_ids[0])
        streamer.put(said)
        if self.error is not None:
            raise self.error
        streamer.end()
        return torch.cat([input_ids[0], said, torch.tensor([self.tokenizer.eos_token_id])])[None]


def asked(partner: Partner, lines: str, **how: Any) -> list[str]:
    """What a model that answers `An answer.` is asked for each of `lines`."""
    model = Scripted(partner)
    talk(Partner(model, partner.tokenizer, partner.template, partner.limit), lines, **how)
    return model.asked


def prompt(partner: Partner, *turns: tuple[str, str]) -> str:
    return partner.tokenizer.decode(partner.template.encode_prompt([Message(role, text) for role, text in turns]))


def test_each_turn_sees_those_before(partner: Partner) -> None:
    first, said = ("user", "Rank?"), ("assistant", "An answer.")
    assert asked(partner, "Rank?\n\nWhy?") == [
        prompt(partner, first), prompt(partner, first, said, ("user", "Why?")),
    ]
    assert asked(partner, "Rank?\n/reset\nWhy?\n")[1] == prompt(partner, ("user", "Why?"))


def test_a_system_message_begins_a_new_conversation(partner: Partner) -> None:
    system, why = ("system", "Be brief."), ("user", "Why?")
    assert asked(partner, "Why?\n", system="Be brief.") == [prompt(partner, system, why)]
    assert asked(partner, "Rank?\n/system Be brief.\nWhy?\n")[1] == prompt(partner, system, why)
    assert asked(partner, "/system\nWhy?\n", system="Be brief.") == [prompt(partner, why)]


def test_a_system_message_that_the_template_refuses_is_joined_to_the_first_question(partner: Partner) -> None:
    from fulgurite.data.template import Template

    tokenizer = copy.deepcopy(partner.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}"
        "{{ m.role + ':' + m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    strict = Partner(partner.model, tokenizer, Template("tokenizer", tokenizer), partner.limit)
    model = Scripted(strict)
    text = talk(Partner(model, tokenizer, strict.template, partner.limit), "Why?\nHow?\n", system="Be brief.")
    assert text.count("has no system message; it is put before the first question") == 1
    assert model.asked[0].startswith("user:Be brief.\n\nWhy?")
    assert model.asked[1].count("Be brief.") == 1


def test_a_whole_answer_is_written_without_a_mark(partner: Partner) -> None:
    model = Scripted(partner, "  An answer\x1b[2J.")
    text = talk(Partner(model, partner.tokenizer, partner.template, 400), "Why?\n")
    assert text == "> Why?\nAn answer\N{REPLACEMENT CHARACTER}[2J.\n"


def test_quit_ends_the_chat_and_unknown_commands_are_named(partner: Partner) -> None:
    assert talk(partner, "/quit\nWhy?\n") == ""
    assert "no command /rest; /help lists the commands. Did you mean reset?" in talk(partner, "/rest\n")


def test_the_end_of_the_input_ends_it(partner: Partner) -> None:
    assert talk(partner, "") == ""
    assert talk(partner, "\n  \n") == ""


def test_draws_are_the_same_for_a_seed(partner: Partner) -> None:
    how = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 12}
    assert talk(partner, "Why?\nWhy?\n", seed=1, **how) == talk(partner, "Why?\nWhy?\n", seed=1, **how)
    assert talk(partner, "Why?\n", seed=1, **how) != talk(partner, "Why?\n", seed=2, **how)


def test_old_turns_are_forgotten_aloud(partner: Partner) -> None:
    one = len(partner.template.encode_prompt([Message("user", "Rank?")]))
    model = Scripted(partner)
    text = talk(Partner(model, partner.tokenizer, partner.template, 2 * one), "Rank?\nRank?\nRank?\n")
    note = f"the model can read at most {2 * one} tokens; dropped from the conversation: the oldest 1 turns"
    assert text.count(note) == 2
    assert model.asked == [prompt(partner, ("user", "Rank?"))] * 3


def test_a_question_that_is_too_long_is_refused(partner: Partner) -> None:
    small = Partner(partner.model, partner.tokenizer, partner.template, 10)
    assert "the model can read at most 10;" in talk(small, "A question of many tokens, too many for this model.\n")


def test_ctrl_c_stops_the_answer_and_not_the_program(partner: Partner) -> None:
    model = Scripted(partner, "The rate is ", KeyboardInterrupt())
    text = talk(Partner(model, partner.tokenizer, partner.template, 400), "Why?\nWhy?\n")
    assert text.count("(stopped)") == 2
    assert model.asked[1].startswith(prompt(partner, ("user", "Why?")) + "The rate")


def test_a_person_is_asked_with_a_prompt(partner: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["Why?", KeyboardInterrupt(), "/quit"])
    prompts = []

    def ask(prompt: str = "") -> str:
        prompts.append(prompt)
        word = next(said)
        if isinstance(word, BaseException):
            raise word
        return word

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("builtins.input", ask)
    out = io.StringIO()
    config = ChatConfig(model="x", temperature=0.0, max_new_tokens=5)
    assert ChatSession(partner, config, out).hold(Terminal()) == 0
    assert prompts == ["> "] * 3
    assert out.getvalue().startswith("Type a message.")
    assert "> Why?" not in out.getvalue()


def test_words_become_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    words = [f"run={tmp_path}", "temperature=0", "top_p=0.5", "max_new_tokens=7", "seed=3", "system=Be brief."]
    config = read([*words, "checkpoint=last"])
    assert config == ChatConfig(str(tmp_path), None, "last", 0.0, 0.5, 7, 3, "Be brief.")


@pytest.mark.parametrize(("words", "part"), [
    ([], "run=<run folder> or model="), (["run=a", "model=b"], "and not both"),
    (["model=a", "temprature=1"], "Did you mean temperature"), (["model=a", "temperature=hot"], "must be a number"),
    (["model=a", "top_p=2"], "0 to 1"), (["model=a", "max_new_tokens=0"], "at least 1"),
    (["model=a", "checkpoint=newest"], "use best, last or step-N"), (["model"], "parameter=value"),
])
def test_wrong_words_are_one_sentence(words: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        read(words)


def test_a_run_as_model_is_refused_with_the_right_word(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "provenance.json").write_text("{}")
    refusal = rf"^model={tmp_path} is a run folder; write fulgurite chat run={tmp_path}\.$"
    with pytest.raises(ConfigError, match=refusal):
        read([f"model={tmp_path}"])
    (tmp_path / "config.yaml").touch()
    assert read([f"run={tmp_path}"]).run == str(tmp_path)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean tiny"):
        chat_main(["model=tinny"])
    with pytest.raises(ModelError):
        chat_main([f"model={tmp_path}"])


def test_a_whole_chat_with_an_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is a warmup?\n"))
    assert chat_main(["model=tiny", "temperature=0", "max_new_tokens=4"]) == 0
    assert capsys.readouterr().out.startswith("> What is a warmup?\n")


def test_it_is_light_until_it_answers() -> None:
    look = "print({'torch', 'transformers'} & set(sys.modules))"
    code = f"import sys; from fulgurite.cli.main import main; main(['chat', '--help']); {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "temperature" in done.stdout


def test_every_knob_of_chat_is_read() -> None:
    source = Path(str(chat.__file__)).read_text()
    names = [knob.name for knob in list_knobs(ChatConfig)]
    assert len(names) == 10
    assert [name for name in names if f"config.{name}" not in source] == []
