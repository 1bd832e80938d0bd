"""The form in which a chat template reads the parts of a conversation. It is found by rendering probes, never by the
name of a model.

transformers passes `messages` and `tools` to the template unchanged. Templates differ in the form they read: the
arguments of a call as an object or as JSON text, the reasoning under one of three names, content as text or as a list
of parts. A part that a template does not support is written as text: a call as JSON in the answer, the functions at the
end of the system message, the reasoning between `<think>` tags before the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fulgurite.data.example import Conversation, Message
from fulgurite.errors import DataError

Turn = dict[str, Any]
Render = Callable[[list[Turn], list[dict[str, Any]], bool], str]
"""Renders turns and tools; the last argument asks for the generation prompt. Raises DataError."""
TOOLS = "You may call these functions:"
REASONING = ("reasoning_content", "thinking", "reasoning")
"""The keys under which templates read the reasoning of an answer."""
MARK = "Zq7probe"
"""A word that no template writes by itself."""
CALLS_AS_TEXT, REASONING_AS_TEXT, SYSTEM_MOVED, GREETING_LEFT_OUT = 16, 32, 64, 1024
"""Flags of a conversation: the changes that were made to render it."""
OPEN_THOUGHT, CLOSE_THOUGHT = "<think>\n", "\n</think>\n\n"


@dataclass(slots=True)
class Dialect:
    """The parts that a template reads. Each property is determined at its first use."""

    render: Render
    _found: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> bool:
        """Whether content must be a list of parts, because the template leaves out text."""
        return bool(self._ask("parts", self._find_parts))

    @property
    def system(self) -> bool:
        """Whether a system message is supported; if not, its text is put into the first user turn."""
        return bool(self._ask("system", self._find_system))

    @property
    def later_system(self) -> bool:
        """Whether a system message after other turns is supported; if not, its text is put into the next user turn."""
        return bool(self._ask("later system", self._find_later_system))

    @property
    def greeting(self) -> bool:
        """Whether a conversation may begin with an answer; if not, answers before the first question are left out."""
        return bool(self._ask("greeting", self._find_greeting))

    @property
    def reasoning(self) -> str:
        """The key of an answer's reasoning; empty if the template does not read reasoning."""
        return str(self._ask("reasoning", self._find_reasoning))

    @property
    def tools(self) -> bool:
        """Whether the functions that may be called are rendered."""
        return bool(self._ask("tools", self._find_tools))

    @property
    def calls(self) -> str:
        """The form of a call's arguments: `object`, or `text` for JSON; empty if calls are not rendered."""
        return str(self._ask("calls", self._find_calls))

    def turns(self, messages: Sequence[Message]) -> tuple[list[Turn], list[dict[str, Any]]]:
        """Returns `messages` and `tools` for `apply_chat_template`."""
        conversation = self.fitted(messages)
        listed, tools = list(conversation), [dict(tool) for tool in conversation.tools]
        # Unsupported functions and a first system message become text of other messages.
        if tools and not self.tools:
            listed, tools = _add_tools(listed, tools), []
        if len(listed) > 1 and listed[0].role == "system" and listed[1].role == "user" and not self.system:
            listed = [replace(listed[1], content=f"{listed[0].content}\n\n{listed[1].content}"), *listed[2:]]
        return [self._turn(message) for message in listed], tools

    def fitted(self, messages: Sequence[Message]) -> Conversation:
        """Removes or moves the turns whose position the template does not support: a greeting, a later system message.
        """
        conversation = Conversation.of(messages)
        listed = list(conversation)
        if _find_greeting_answers(listed) and not self.greeting:
            early = _find_greeting_answers(listed)
            listed = [message for n, message in enumerate(listed) if n not in early]
        if _has_later_system(listed) and not self.later_system:
            listed = _move_later_system(listed)
        return conversation if len(listed) == len(conversation) else replace(conversation, messages=tuple(listed))

    def flags(self, messages: Sequence[Message]) -> int:
        """Returns flags for the parts of a conversation that `turns` changes."""
        conversation, found = Conversation.of(messages), 0
        if (conversation.tools and not self.tools) or (any(m.tool_calls for m in conversation) and not self.calls):
            found |= CALLS_AS_TEXT
        if any(m.reasoning for m in conversation) and not self.reasoning:
            found |= REASONING_AS_TEXT
        if _find_greeting_answers(conversation) and not self.greeting:
            found |= GREETING_LEFT_OUT
        first = any(turn.role == "system" for turn in conversation[:1])
        if (first and not self.system) or (_has_later_system(conversation) and not self.later_system):
            found |= SYSTEM_MOVED
        return found

    def _turn(self, message: Message) -> Turn:
        content = message.content
        turn: Turn = {"role": message.role, "content": ""}
        if message.tool_calls and not self.calls:
            content = "\n".join([*([content] if content else []), *map(_format_call, message.tool_calls)])
        elif message.tool_calls:
            turn["tool_calls"] = [_write_call(call, self.calls) for call in message.tool_calls]
        if message.reasoning and self.reasoning:
            turn[self.reasoning] = message.reasoning
        elif message.reasoning:
            content = f"{OPEN_THOUGHT}{message.reasoning.strip()}{CLOSE_THOUGHT}{content}"
        turn |= {"name": message.name} if message.name else {}
        turn |= {"tool_call_id": message.call_id} if message.call_id else {}
        turn["content"] = self._content(content)
        return turn

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.parts else text

    # -- probes ---------------------------------------------------------------------------------------------------

    def _ask(self, name: str, find: Callable[[], Any]) -> Any:
        # Each probe is rendered once, and only when its answer is needed.
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]

    def _try(self, turns: list[Turn], tools: Sequence[dict[str, Any]] = (), prompt: bool = False) -> str:
        """Returns the rendering, or an empty text if the template raises an error."""
        try:
            return self.render(turns, list(tools), prompt)
        except DataError:
            return ""

    def _find_parts(self) -> bool:
        # Plain text is preferred: parts are used only if text is left out and parts are not.
        if MARK in self._try([{"role": "user", "content": MARK}], prompt=True):
            return False
        return MARK in self._try([{"role": "user", "content": [{"type": "text", "text": MARK}]}], prompt=True)

    def _user(self) -> Turn:
        return {"role": "user", "content": self._content("Hello")}

    def _find_system(self) -> bool:
        # Unsupported only if the same conversation works without the system message.
        refused = not self._try([{"role": "system", "content": self._content(MARK)}, self._user()], prompt=True)
        return not (refused and self._try([self._user()], prompt=True))

    def _find_later_system(self) -> bool:
        before = [self._user(), {"role": "assistant", "content": self._content("Yes")}]
        # It must be rendered, and after the earlier answer.
        written = self._try([*before, {"role": "system", "content": self._content(MARK)}, self._user()], prompt=True)
        return MARK in written and written.find("Yes") < written.find(MARK)

    def _find_greeting(self) -> bool:
        return MARK in self._try([{"role": "assistant", "content": self._content(MARK)}, self._user()], prompt=True)

    def _find_reasoning(self) -> str:
        answer = {"role": "assistant", "content": self._content("Yes")}
        return next((key for key in REASONING if MARK in self._try([self._user(), answer | {key: MARK}])), "")

    def _find_tools(self) -> bool:
        parameters = {
            "type": "object",
            "properties": {"x": {"type": "string", "description": "a text"}},
            "required": ["x"],
        }
        function = {"name": MARK, "description": "a function", "parameters": parameters}
        return MARK in self._try([self._user()], [{"type": "function", "function": function}], prompt=True)

    def _find_calls(self) -> str:
        # `object` first: most templates apply tojson to the arguments, which would quote a text a second time.
        for form in ("object", "text"):
            written = self._written_call(form)
            if MARK in written and "lookup" in written:
                return form
        return ""

    def _written_call(self, form: str, count: int = 1) -> str:
        # Mistral's templates accept only ids of nine characters.
        given = {"type": "function", "id": "abcdefghi", "function": {"name": "lookup", "arguments": {"x": MARK}}}
        calls = [_write_call(given, form)] * count
        return self._try([self._user(), {"role": "assistant", "content": self._content(""), "tool_calls": calls}])

    def closing_of_calls(self) -> tuple[str, str]:
        """Returns the text after the arguments of a call up to the end of the answer, of one and of two calls; empty if
        calls are not rendered."""
        if not self.calls:
            return "", ""
        # MARK is the only argument. After its first occurrence in `two` the whole second call follows.
        one, two = self._written_call(self.calls), self._written_call(self.calls, 2)
        return one.rpartition(MARK)[2], two.partition(MARK)[2]


def _find_greeting_answers(messages: Sequence[Message]) -> list[int]:
    """Returns the positions of the answers before the first question."""
    first = next((n for n, message in enumerate(messages) if message.role == "user"), 0)
    return [n for n in range(first) if messages[n].role == "assistant"]


def _has_later_system(messages: Sequence[Message]) -> bool:
    return any(message.role == "system" for message in messages[1:])


def _move_later_system(messages: Sequence[Message]) -> list[Message]:
    """Moves the text of later system messages to the beginning of the next user turn, or to the end of the one before.
    """
    moved: list[Message] = []
    # `held` is the text of a system message that waits for the next user turn.
    held = ""
    for n, message in enumerate(messages):
        follows = messages[n + 1].role if n + 1 < len(messages) else ""
        if message.role == "system" and n > 0 and moved[-1].role == "user" and follows != "user":
            moved[-1] = replace(moved[-1], content=f"{moved[-1].content}\n\n{message.content}")
        elif message.role == "system" and n > 0 and follows == "user":
            held = message.content
        elif message.role == "user" and held:
            joined, held = f"{held}\n\n{message.content}", ""
            if moved[-1].role == "user":
                moved[-1] = replace(moved[-1], content=f"{moved[-1].content}\n\n{joined}")
            else:
                moved.append(replace(message, content=joined))
        else:
            moved.append(message)
    return moved


def _add_tools(messages: list[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Adds the functions to the end of the system message."""
    listed = f"{TOOLS}\n{json.dumps(list(tools), ensure_ascii=False)}"
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{messages[0].content}\n\n{listed}"), *messages[1:]]
    return [Message("system", listed), *messages]


def _write_call(call: Mapping[str, Any], form: str) -> dict[str, Any]:
    """Returns a call with its arguments in the form that the template reads."""
    function = dict(call["function"])
    given = _parse_arguments(function.get("arguments"))
    # Text that is not a JSON object stays as it is, because dumps would quote it.
    function["arguments"] = (
        given if form == "object" or isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    )
    return {**call, "function": function}


def _parse_arguments(given: Any) -> Any:
    """Parses arguments to an object; returns text that is not a JSON object as it is."""
    if not isinstance(given, str):
        return given
    try:
        read = json.loads(given)
    except (ValueError, RecursionError):
        return given
    return read if isinstance(read, dict) else given


def _format_call(call: Mapping[str, Any]) -> str:
    """Formats a call as `{"name": ..., "arguments": {...}}`."""
    function = call["function"]
    return json.dumps(
        {"name": function["name"], "arguments": _parse_arguments(function.get("arguments"))}, ensure_ascii=False
    )
