"""The forms in which chat templates write a call, and which of them a template uses.

The form is found by rendering a call and reading it back, never by the name of a model. transformers describes the same
by a tokenizer's `response_template`. Its parser is not used: it ends a call at the first closing text, also inside a
JSON string; it raises an error for damaged JSON; and it needs a description that few tokenizers bring along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from fulgurite.data.answers import find_shared_beginning
from fulgurite.data.call_bodies import BodyReader, read_arguments, read_functions, read_gemma, read_pairs, read_python
from fulgurite.data.example import Conversation, Message
from fulgurite.errors import DataError

TAGGED = r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>"
KEYED = r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>"
NAMED = r'<{0}parameter name="(?P<key>[^"]+)"[^>]*>(?P<value>.*?)</{0}parameter>'


@dataclass(frozen=True, slots=True)
class CallForm:
    """A form of calls: patterns of the text before and after a body, and the reader of the body.

    `mark` is a text with which only calls begin. `opening` may have the groups `name` and `id`. It begins with no
    blanks (a long run of them would be searched again from each), and ends with a text that cannot be longer. `tail` is
    the text that may follow the last call.
    """

    name: str
    mark: str
    read: BodyReader
    closing: str = ""
    tail: str = ""
    opening: str = ""
    begin: Any = field(init=False, compare=False, repr=False)
    before: Any = field(init=False, compare=False, repr=False)
    after: Any = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # The dataclass is frozen, so its computed fields are set past its own __setattr__.
        object.__setattr__(self, "begin", regex.compile(self.mark))
        object.__setattr__(self, "before", regex.compile(self.opening) if self.opening else self.begin)
        object.__setattr__(self, "after", regex.compile(r"\s*" + self.closing) if self.closing else None)


def build_tagged_form(prefix: str) -> CallForm:
    """Returns the form of Qwen3-Coder, Qwen 3.5, Nemotron 3 and, with a prefix, of Seed-OSS."""
    tag = rf"<{prefix}tool_call>"
    return CallForm(
        f"{prefix}parameters in tags", rf"{tag}|<function=", read_pairs(TAGGED), r"</function>",
        tail=f"</{prefix}tool_call>", opening=rf"(?:{tag}\s*)?<function=(?P<name>[^>\n]+)>",
    )


FORMS = (
    # Hermes, Qwen 2.5 and 3, SmolLM3, and most templates that are trained on their data.
    CallForm("json in tags", r"<tool_call>", read_functions, r"</tool_call>"),
    build_tagged_form(""),
    build_tagged_form("seed:"),
    CallForm("glm", r"<tool_call>", read_pairs(KEYED), r"</tool_call>",
             opening=r"<tool_call>\s*(?P<name>[\w.-]+)(?=\s*<)"),
    CallForm(
        "minimax", "<minimax:tool_call>|<invoke ", read_pairs(NAMED.format("")), r"</invoke>", "</minimax:tool_call>",
        opening=r'(?:<minimax:tool_call>\s*)?<invoke name="(?P<name>[^"]+)">',
    ),
    CallForm(
        "atem", r"<atem:", read_pairs(NAMED.format("atem:")), r"</atem:invoke>", "</atem:function_calls>",
        opening=r"(?:(?:<\|start\|>assistant)? ?to=[^\s<]+<\|message\|>\s*)?"
        r'(?:<atem:function_calls>\s*)?<atem:invoke name="(?P<name>[^"]+)">',
    ),
    CallForm("gemma", r"<\|tool_call>", read_gemma, r"<tool_call\|>",
             opening=r"<\|tool_call>call:(?P<name>[^{\s]+)(?=\{)"),
    CallForm("lfm", r"<\|tool_call_start\|>", read_python, r"<\|tool_call_end\|>"),
    CallForm(
        "harmony", r"to=functions\.", read_arguments, r"<\|call\|>",
        opening=r"(?:<\|start\|>assistant)?(?:<\|channel\|>commentary)? ?to=functions\.(?P<name>[^\s<]+)"
        r"(?:<\|channel\|>commentary)?\s*(?:<\|constrain\|>)?(?:json)?<\|message\|>",
    ),
    CallForm("mistral", r"\[TOOL_CALLS\]", read_functions),
    CallForm(
        "mistral by name", r"\[TOOL_CALLS\]", read_arguments,
        opening=r"\[TOOL_CALLS\]\s*(?P<name>[^\s\[\]{]+)(?:\[CALL_ID\](?P<id>\w+))?(?:\[ARGS\]|(?=\{))",
    ),
    # DeepSeek V3 with the name before a block of code, and V3.1 with the name alone.
    CallForm(
        "deepseek", r"<｜tool▁calls?▁begin｜>", read_arguments, r"(?:```)?\s*<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
        opening=r"(?:<｜tool▁calls▁begin｜>\s*)?<｜tool▁call▁begin｜>"
        r"(?:function<｜tool▁sep｜>(?P<name>[^\n<]+)\n```json\n|(?!function<)(?P<name>[^\n<]+)<｜tool▁sep｜>)",
    ),
    CallForm(
        "kimi", r"<\|tool_call(?:s_section)?_begin\|>", read_arguments, r"<\|tool_call_end\|>",
        "<|tool_calls_section_end|>",
        opening=r"(?:<\|tool_calls_section_begin\|>\s*)?<\|tool_call_begin\|>\s*"
        r"(?P<id>(?:functions\.)?(?P<name>[^\s:<]+):\d+)\s*<\|tool_call_argument_begin\|>",
    ),
    CallForm("cohere", r"<\|START_ACTION\|>", read_functions, r"<\|END_ACTION\|>"),
    CallForm("phi", r"<\|tool_call\|>", read_functions, tail="<|/tool_call|>"),
    # Llama 3, and every template that has no place for calls: the call alone, on a line of its own.
    CallForm(
        "json",
        r'(?:<\|python_tag\|>|^|(?<=\n))[ \t]*(?=\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?'
        r'"name"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"(?:arguments|parameters)"\s*:)',
        read_functions,
    ),
)
"""Each form is tried in this order."""

PROBE_TOOLS: tuple[dict[str, Any], ...] = tuple(
    {"type": "function", "function": {"name": name, "description": "a function", "parameters": {
        "type": "object", "required": ["x"], "properties": {
            "x": {"type": "string", "description": "a text"}, "n": {"type": "integer", "description": "a number"},
            "on": {"type": "boolean", "description": "a switch"}, "o": {"type": "object", "description": "an object"},
        },
    }}}
    for name in ("lookup", "store")
)
PROBE = ({"x": "Zq7probe 5", "n": 12, "on": True, "o": {"a": [1, "b"]}}, {"x": "7"})
ReadBack = Callable[[CallForm, str, Sequence[Mapping[str, Any]]], tuple[list[Mapping[str, Any]], str]]
"""Returns the functions that a text calls, with their arguments, and the rest of the text."""
Render = Callable[[Conversation, bool], str]


def find_form(render: Render, read_back: ReadBack) -> CallForm | None:
    """Returns the form in which `render` writes calls: the first that reads two rendered calls back, or one if the
    template allows no more; None if there is no such form."""
    calls = [
        {"type": "function", "id": f"abcdefgh{n}", "function": {"name": tool["function"]["name"], "arguments": given}}
        for n, (tool, given) in enumerate(zip(PROBE_TOOLS, PROBE, strict=True))
    ]
    # Two calls first, because only they show what separates one call from the next.
    for count in (2, 1):
        asked = Conversation((Message("user", "Hello"), Message("assistant", "", tuple(calls[:count]))), PROBE_TOOLS)
        try:
            whole = render(asked, False)
            # The answer is what follows the prompt; some prompts open a thought, which the answer to a call lacks.
            written = whole[len(find_shared_beginning(render(asked[:1], True), whole)) :]
        except DataError:  # a template may refuse several calls in one answer
            continue
        found = [
            (len(text), n)
            for n, form in enumerate(FORMS)
            for functions, text in (read_back(form, written, PROBE_TOOLS),)
            if functions == [call["function"] for call in calls[:count]]
        ]
        # The form that leaves least of the text: another may read the same calls, and leave the text around them.
        if found:
            return FORMS[min(found)[1]]
    return None
