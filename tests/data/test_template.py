"""Chat templates: what precedes an answer in training is what precedes it at inference, token by token."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from fulgurite.data import template as module
from fulgurite.data.config import SpecialTokens
from fulgurite.data.example import Message
from fulgurite.data.template import BUILT_IN, END_OF_TURN, Template, load_template
from fulgurite.errors import ConfigError, DataError

MARKS = {
    "chatml": ["<|im_start|>", "<|im_end|>"], "llama3": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "gemma": ["<start_of_turn>", "<end_of_turn>"], "zephyr": [], "alpaca": [], "vicuna": [], "mistral": [],
}
TALK = [
    Message("user", "What is the capital of France?"), Message("assistant", "Paris."),
    Message("user", "Name a colour."), Message("assistant", "Blue is a colour,\n\nand so is red."),
    Message("user", "1 2 3?"), Message("assistant", "4 5"),
]
SYSTEM = Message("system", "You answer briefly.")
EVERY = list(product(sorted(BUILT_IN), [True, False], [True, False], [True, False], [1, 2, 3]))


def talk(system: bool, turns: int) -> list[Message]:
    return ([SYSTEM] if system else []) + TALK[: 2 * turns]


def test_all_built_in_templates_are_here() -> None:
    assert sorted(BUILT_IN) == sorted(MARKS)


@pytest.mark.parametrize(("name", "marks", "start", "system", "turns"), EVERY)
def test_the_tokens_before_each_learned_answer_are_those_of_its_prompt(
    name: str, marks: bool, start: bool, system: bool, turns: int, make_tokenizer: Any
) -> None:
    tokenizer = make_tokenizer(MARKS[name] if marks else [], start, llama3=name == "llama3")
    template = load_template(name, tokenizer)
    messages = talk(system, turns)
    ids, learn = template.encode_chat(messages, "answers")
    begins = [i for i in range(len(ids)) if learn[i] and not learn[i - 1]]
    answers = [i for i, m in enumerate(messages) if m.role == "assistant"]
    assert len(begins) == turns
    for begin, i in zip(begins, answers, strict=True):
        prompt = template.encode_prompt(messages[:i])
        assert ids[:begin] == prompt
        turns_so_far = [{"role": m.role, "content": m.content} for m in messages[:i]]
        assert prompt == tokenizer.apply_chat_template(turns_so_far, add_generation_prompt=True)["input_ids"]
        end = begin + learn[begin:].index(False) if False in learn[begin:] else len(ids)
        assert tokenizer.decode(ids[begin : end - 1]).strip() == messages[i].content
        assert ids[end - 1] in template.stop_ids
    assert tokenizer.decode(ids) == template.text(messages, prompt=False)


@pytest.mark.parametrize(("name", "start"), list(product(sorted(BUILT_IN), [True, False])))
def test_one_start_token_where_the_tokenizer_adds_one_and_none_elsewhere(
    name: str, start: bool, make_tokenizer: Any
) -> None:
    tokenizer = make_tokenizer(MARKS[name], start)
    ids, _ = load_template(name, tokenizer).encode_chat(talk(True, 2), "answers")
    assert ids.count(tokenizer.bos_token_id) == int(start)
    assert (ids[0] == tokenizer.bos_token_id) == start


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_end_of_turn_is_learned_and_the_newline_after_it_is_not(name: str, make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(MARKS[name])
    template = load_template(name, tokenizer)
    ids, learn = template.encode_chat(talk(False, 1), "answers")
    end = len(learn) - learn[::-1].index(True)
    assert tokenizer.convert_ids_to_tokens(ids[end - 1]) == END_OF_TURN.get(name, "</s>")
    assert tokenizer.decode(ids[end:]).strip() == ""
    assert template.stop_ids == list(dict.fromkeys([ids[end - 1], tokenizer.eos_token_id]))


@pytest.mark.parametrize("name", sorted(END_OF_TURN))
def test_a_tokenizer_without_the_end_of_turn_ends_with_its_own(name: str, make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer([])
    template = load_template(name, tokenizer)
    assert template.stop_ids == [tokenizer.eos_token_id]
    assert END_OF_TURN[name] not in tokenizer.chat_template


def test_masks(tokenizer: Any) -> None:
    template = load_template(None, tokenizer)
    messages = talk(True, 3)
    by_mask = {mask: template.encode_chat(messages, mask) for mask in ("answers", "last", "all")}
    assert by_mask["answers"][0] == by_mask["last"][0] == by_mask["all"][0]
    assert all(by_mask["all"][1])
    learned = {mask: tokenizer.decode([i for i, on in zip(*by_mask[mask], strict=True) if on]) for mask in by_mask}
    assert learned["last"] == "4 5<|im_end|>"
    assert learned["answers"] == "Paris.<|im_end|>Blue is a colour,\n\nand so is red.<|im_end|>4 5<|im_end|>"


def test_the_tokenizer_s_own_template_wins_and_a_chosen_one_is_kept(tokenizer: Any) -> None:
    own = (
        "{% for m in messages %}{{ m['role'] + ':' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer.chat_template = own
    assert load_template(None, tokenizer).name == "tokenizer"
    assert tokenizer.chat_template == own
    assert load_template("zephyr", tokenizer).name == "zephyr"
    assert tokenizer.chat_template == BUILT_IN["zephyr"]


def test_chatml_is_taken_if_the_tokenizer_has_no_template(tokenizer: Any) -> None:
    assert load_template(None, tokenizer).name == "chatml"
    assert tokenizer.chat_template == BUILT_IN["chatml"]


def test_an_answer_that_would_merge_with_its_prompt_is_cut_from_it(make_tokenizer: Any) -> None:
    """`\\n\\n` is one token: an answer that begins with it takes the prompt's newline when the text is taken whole."""
    tokenizer = make_tokenizer(MARKS["chatml"])
    template = load_template("chatml", tokenizer)
    messages = [Message("user", "1"), Message("assistant", "\n\n2")]
    prompt = template.encode_prompt(messages[:1])
    whole = template.tokenise([template.text(messages, prompt=False)])[0]
    assert whole[: len(prompt)] != prompt
    ids, learn = template.encode_chat(messages, "answers")
    assert ids[: len(prompt)] == prompt
    assert learn.index(True) == len(prompt)
    assert tokenizer.decode(ids[len(prompt) : -1]) == "\n\n2<|im_end|>"


def test_an_earlier_answer_whose_tokens_would_differ_is_not_learned_and_counted(make_tokenizer: Any) -> None:
    """Llama 3's header ends in two line breaks: by GPT-2's cut one token before nothing, two before a word."""
    template = load_template("llama3", make_tokenizer(MARKS["llama3"]))
    plan = template.plan(TALK, "answers")
    learned = template.join(plan, template.tokenise(plan.texts))
    prompt = template.encode_prompt(TALK[:5])
    assert learned.missed == 2
    assert learned.ids[: len(prompt)] == prompt
    assert learned.learn.index(True) == len(prompt)


RERENDERS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|im_start|>' + m['content'] }}{% elif loop.last %}"
    "{{ '>' + m['content'] + '<|im_end|>' }}{% else %}{{ '>' + m['content'][:2] + '<|im_end|>' }}{% endif %}{% endfor "
    "%}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def test_a_template_that_rewrites_earlier_turns_is_refused_and_mask_last_works(tokenizer: Any) -> None:
    tokenizer.chat_template = RERENDERS
    template = load_template(None, tokenizer)
    with pytest.raises(DataError, match=r"renders earlier turns differently.*data\.mask=last"):
        template.encode_chat(TALK, "answers")
    ids, learn = template.encode_chat(TALK, "last")
    prompt = template.encode_prompt(TALK[:5])
    assert ids[: len(prompt)] == prompt
    assert tokenizer.decode([i for i, on in zip(ids, learn, strict=True) if on]) == "4 5<|im_end|>"


@pytest.mark.parametrize(("text", "error", "said"), [
    ("{% for m in messages %}{{ m['content'] }}{% endfor %}", ConfigError, "no end token after an answer"),
    ("{{ bos_token + bos_token }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", ConfigError,
        "two start tokens"),
    ("{{ raise_exception('no') }}", DataError, "does not accept a conversation"),
    ("{% for m in messages %}", DataError, "does not accept a conversation"),
    ("{{ messages.append(1) }}", DataError, "does not accept a conversation"),
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", DataError, "does not accept a conversation"),
    ("{% for i in range(99999999) %}{% endfor %}", DataError, "does not accept a conversation"),
], ids=["no end", "two starts", "raises", "no Jinja", "changes", "climbs", "counts far"])
def test_a_template_that_cannot_be_learned_from_is_refused(
    text: str, error: type[Exception], said: str, tokenizer: Any
) -> None:
    tokenizer.chat_template = text
    with pytest.raises(error, match=said) as caught:
        load_template(None, tokenizer)
    assert "\n" not in str(caught.value)
    assert "template" in str(caught.value)


def test_a_template_that_loops_is_stopped(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    tokenizer.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(DataError, match=r"longer than 0\.2 seconds"):
        load_template(None, tokenizer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ (7**(7**8))|string|length }}", "longer than"), ("{{ ('9'*4000)|int ** 4000 }}", "longer than"),
        ("{{ 'a'.center(4000000000) }}", "MB of memory"), ("{{ '{:>9000000000}'.format('x') }}", "MB of memory"),
        ("{{ messages|tojson(indent=4000000000) }}", "MB of memory"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "RecursionError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ 'x'.encode('utf-16').decode('ascii') }}", "can't decode byte"),
        ("{% if 1 %}" * 1000 + "{% endif %}" * 1000, "RecursionError"),
    ],
)
def test_a_template_ends_in_bounded_time_and_memory_with_one_line(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    """Jinja folds constants under `except Exception`, and then evaluates them again."""
    monkeypatch.setattr(module, "SECONDS", 0.5)
    tokenizer.chat_template = text
    with pytest.raises(DataError, match=said) as caught:
        load_template(None, tokenizer)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_message_that_the_template_leaves_out_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'] + ':' + m['content'] + eos_token }}{% endif "
        "%}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(DataError, match="leaves out the content of a system message"):
        load_template(None, tokenizer).encode_chat(talk(True, 1), "answers")


@pytest.mark.parametrize("name", ["chatlm", "../../x", "/etc/passwd", "templates/chatml.jinja", "own"])
def test_an_unknown_name_is_refused(name: str, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="is not a built-in template") as caught:
        load_template(name, tokenizer)
    assert "chatml" in str(caught.value)
    assert tokenizer.chat_template is None


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="the tokenizer has none"):
        load_template("zephyr", tokenizer)


def test_the_text_of_a_stop_token_in_an_answer_is_noticed(tokenizer: Any) -> None:
    template = load_template("chatml", tokenizer, None, SpecialTokens.keep)
    assert template.holds_stop([Message("user", "a"), Message("assistant", "b <|im_end|> c")])
    assert not template.holds_stop([Message("user", "<|im_end|>"), Message("assistant", "b")])


def test_sentencepiece_prefix_space() -> None:
    """A tokenizer that puts a space before a first word: an answer cut off from its prompt gets none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [
        "<unk>", "<s>", "</s>", "▁", "\n", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?.,:|<>_1234567890"
    ]
    raw = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)} | {"▁a": len(words)}, merges=[("▁", "a")],
        unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    template = load_template("chatml", tokenizer)
    messages = [Message("user", "who?"), Message("assistant", "a man")]
    ids, learn = template.encode_chat(messages, "answers")
    prompt = template.encode_prompt(messages[:1])
    assert ids[: len(prompt)] == prompt
    assert tokenizer.convert_ids_to_tokens([i for i, on in zip(ids, learn, strict=True) if on])[:2] == ["a", "▁"]
    assert isinstance(template, Template)
