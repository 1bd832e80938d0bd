"""Ollama's Modelfile of an exported model: the file, the chat template in Go's template language, and the stops.

Ollama renders chats by a template of its own language. Ours, in Jinja, is taken apart by rendering conversations: if
what surrounds each message depends on its role alone, the same is written in Go, and rendered again here to compare.
Ollama recognises some Jinja templates by their text, and answers without any template if it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fulgurite.data.example import Message
from fulgurite.data.template import Template
from fulgurite.errors import DataError, ModelError

NAME = "Modelfile"
SYSTEM, USER, ANSWER, AGAIN = "system-1", "user-1", "answer-1", "user-2"
"""Contents that no template writes by itself."""


@dataclass(frozen=True, slots=True)
class TemplateParts:
    """What a template writes before and after the content of each role, and at the end of a prompt.

    `start` is written once. With `folded` the instructions are written inside the first question. `default` are the
    instructions of a conversation that has none; None if it has none either.
    """

    start: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    prompt: str
    folded: bool
    default: str | None

    def render(self, messages: Sequence[Message]) -> str:
        """Renders a prompt as the Go template does."""
        listed = list(messages)
        if self.default is not None and listed[0].role != "system":
            listed.insert(0, Message("system", self.default))
        text = self.start
        for n, message in enumerate(listed):
            before, after = {"system": self.system, "user": self.user, "assistant": self.answer}[message.role]
            inside = self.folded and n == 1 and listed[0].role == "system"
            text += ("" if inside else before) + message.content + after
        return text + self.prompt


def write_modelfile(template: Template, model: str) -> str:
    """Returns the text of a Modelfile for the file or folder `model` beside it.

    Raises ModelError if the chat template depends on more than the roles of the messages.
    """
    parts = find_parts(template)
    stops = [str(template.tokenizer.convert_ids_to_tokens(number)) for number in template.stop_ids]
    lines = [f"FROM {model}", f'TEMPLATE """{format_go(parts)}"""']
    if parts.default is not None:
        lines.append(f'SYSTEM """{parts.default}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    return "\n".join(lines) + "\n"


def find_parts(template: Template) -> TemplateParts:
    """Takes a template apart. Raises ModelError if its parts do not make the same text again."""
    try:
        found = _take_apart(template)
        for messages in _list_conversations():
            if found.render(messages) != _render(template, messages):
                raise ValueError
        for text in (format_go(found), found.default or ""):
            if '"""' in text:
                raise ValueError
    except (DataError, ValueError):
        raise ModelError(
            "The chat template {name} cannot be written for Ollama, because more than the roles of the messages "
            "decides what it writes; leave out modelfile=true, and write a TEMPLATE by hand.",
            name=template.name,
        ) from None
    return found


def format_go(parts: TemplateParts) -> str:
    """Returns the template in Go's template language, over Ollama's `.Messages`."""
    user_before = _quote(parts.user[0])
    if parts.folded:
        inside = '(and (eq $i 1) (eq (index $.Messages 0).Role "system"))'
        user_before = f"{{{{ if not {inside} }}}}{user_before}{{{{ end }}}}"
    blocks = {
        "system": _quote(parts.system[0]) + "{{ $m.Content }}" + _quote(parts.system[1]),
        "user": user_before + "{{ $m.Content }}" + _quote(parts.user[1]),
        "assistant": _quote(parts.answer[0]) + "{{ $m.Content }}" + _quote(parts.answer[1]),
    }
    chosen = "{{ else ".join(f'if eq $m.Role "{role}" }}}}{block}' for role, block in blocks.items())
    return (
        f"{_quote(parts.start)}{{{{ range $i, $m := .Messages }}}}{{{{ {chosen}{{{{ end }}}}{{{{ end }}}}"
        f"{_quote(parts.prompt)}"
    )


def _quote(text: str) -> str:
    """Returns text as Go's template language writes it out; braces would begin an action."""
    return text.replace("{{", '{{ "{{" }}')


def _take_apart(template: Template) -> TemplateParts:
    """Returns the parts by rendering three conversations. Raises ValueError if they do not fit together."""
    one = _split(_render(template, [
        Message("system", SYSTEM), Message("user", USER), Message("assistant", ANSWER), Message("user", AGAIN),
    ]), [SYSTEM, USER, ANSWER, AGAIN])
    without = [Message("user", USER), Message("assistant", ANSWER), Message("user", AGAIN)]
    two = _split(_render(template, without), [USER, ANSWER, AGAIN])
    before_system, system_to_user, user_to_answer, answer_to_user, end = one
    # What comes before every question: the common end of all that comes before one.
    before_user = _common_end(answer_to_user, two[0])
    folded = not system_to_user.endswith(before_user)
    after_system = system_to_user if folded else system_to_user.removesuffix(before_user)
    after_user = _find_after_user(template, before_user, user_to_answer, end)
    opening = two[0].removesuffix(before_user)
    start, default = _find_default(opening, before_system, after_system, before_user if folded else "")
    return TemplateParts(
        start, (before_system.removeprefix(start), after_system), (before_user, after_user),
        (user_to_answer.removeprefix(after_user), answer_to_user.removesuffix(before_user)),
        end.removeprefix(after_user), folded, default,
    )


def _find_after_user(template: Template, before_user: str, user_to_answer: str, end: str) -> str:
    """Returns what follows a question: seen between two of them, if the template takes two."""
    try:
        text = _render(template, [Message("user", USER), Message("user", AGAIN)])
        return _split(text, [USER, AGAIN])[1].removesuffix(before_user)
    except (DataError, ValueError):
        return _common_end(user_to_answer[::-1], end[::-1])[::-1]


def _find_default(opening: str, first: str, after_system: str, folded: str) -> tuple[str, str | None]:
    """Returns what begins every conversation, and the instructions of one without any, from the `opening` of such a
    conversation and from what comes `first` before given ones."""
    start = first.removesuffix(folded)
    if opening == start or first.startswith(opening):
        return opening, None
    if opening.startswith(first) and opening.endswith(after_system):
        return "", opening.removeprefix(first).removesuffix(after_system)
    raise ValueError


def _render(template: Template, messages: Sequence[Message]) -> str:
    return template.special.unmarked(template.text(messages, prompt=True))


def _split(text: str, contents: Sequence[str]) -> list[str]:
    """Returns what is before, between and after contents that occur once each, in this order. Raises ValueError."""
    parts = []
    for content in contents:
        before, found, text = text.partition(content)
        if not found:
            raise ValueError
        parts.append(before)
    return [*parts, text]


def _common_end(one: str, two: str) -> str:
    count = 0
    while count < min(len(one), len(two)) and one[-1 - count] == two[-1 - count]:
        count += 1
    return one[len(one) - count :]


def _list_conversations() -> list[list[Message]]:
    """Returns conversations by which the parts are compared with the template."""
    system, user, answer = Message("system", "Be brief."), Message("user", "Why {{ 1 }}?"), Message("assistant", "So.")
    plain = Message("user", "And now?")
    return [[user], [system, user], [user, answer, plain], [system, user, answer, plain, answer, user]]
