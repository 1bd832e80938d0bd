"""Checks that a tokenizer alone renders conversations as training does. An export requires it, and it is checked before
training too."""

from __future__ import annotations

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from fulgurite.data.example import Conversation, Message
from fulgurite.data.template import Template
from fulgurite.errors import DataError
from fulgurite.language.message import UserMessage, message

TOOL = {
    "type": "function",
    "function": {
        "name": "heat",
        "description": "The temperature.",
        "parameters": {"type": "object", "properties": {"unit": {"type": "string"}}},
    },
}
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "heat", "arguments": {"unit": "C"}}}
CONVERSATIONS = (
    [Message("user", "What does warmup do?")],
    [
        Message("system", "Answer briefly."),
        Message("user", "Name a colour."),
        Message("assistant", "Blue."),
        Message("user", "Another?"),
    ],
    Conversation(
        (Message("user", "How hot?"), Message("assistant", "", (CALL,)), Message("tool", "20", call_id="abcdefghi")),
        (TOOL,),
    ),
)


def describe_difference(template: Template, tokenizer: PreTrainedTokenizerBase) -> UserMessage | None:
    """Returns a sentence without its subject if transformers' own `apply_chat_template` gives other tokens than
    training; else None."""
    # A question, several turns with a system message, and a call with its result.
    for messages in CONVERSATIONS:
        try:
            ours = template.encode_prompt(messages)
        except DataError:  # some templates do not support a system message, neither in training nor here
            continue
        turns, tools = template.dialect.turns(messages)
        try:
            theirs = tokenizer.apply_chat_template(turns, tools=tools or None, add_generation_prompt=True)
        except TemplateError:  # a conversation that the template refuses, and that training rewrites
            continue
        if list(theirs["input_ids"]) != ours:
            return message(
                "renders conversations differently from training; set data.template, for example data.template=chatml."
            )
    return None
