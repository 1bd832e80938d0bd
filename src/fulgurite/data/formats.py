"""Reads a record as a conversation or a text: alpaca, sharegpt, openai messages, prompt and completion, raw text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fulgurite.data.config import Format
from fulgurite.data.example import Conversation, Message
from fulgurite.data.fields import (
    Fields,
    Reading,
    Wrong,
    describe_kind,
    find_root,
    has_column,
    is_blank,
    is_nothing,
    list_unread_paths,
    read_list,
    read_text,
    rename_keys,
    to_text,
)
from fulgurite.data.messages import REASONING, TALKS, TURN_KEYS, Turn, is_turns, join_turns, read_parts, read_turns
from fulgurite.data.reads import CONVERSATIONS, Reads
from fulgurite.data.report import Reason
from fulgurite.data.tool_calls import read_arguments, read_tools, write_calls
from fulgurite.errors import suggest_similar
from fulgurite.language.message import message

PAIR = message("found a chosen/rejected pair, expected one answer to learn")
QUESTIONS, ANSWERS = ("instruction", "prompt"), ("output", "response", "completion")
"""Names of a question and of its answer in a record of one exchange."""
TURNS = TALKS
GREETING = Reason(message("an answer before the first question kept as context and not learned"))
NOT_ANSWERED = Reason(message("turns after the last answer left out, because nothing in them is learned"))
REJECTED = ("rejected_response", "rejected_messages")
"""The fields of the worse answer in ms-swift; the better one ends `messages`."""
COLUMNS = frozenset(
    {
        *QUESTIONS,
        *ANSWERS,
        *TURNS,
        "text",
        "input",
        "context",
        "system",
        "history",
        "tools",
        "functions",
        "chat_template_kwargs",
        "chosen",
        "rejected",
        "margin",
        "label",
        *TURN_KEYS,
        *REASONING,
    }
)
"""Every field that some format reads, and the keys of a turn.

`id` is ignored: neither read nor counted as unread.
"""
Found = tuple[Conversation | None, str | None]


def detect_format(record: Any, reads: Reads = CONVERSATIONS) -> Format | None:
    """Returns the format of a record by its fields, or None; a field with null counts only if no other field matches.

    `reads` is the declaration of the stage: a label makes a judged answer only if the stage compares answers.
    """
    if is_turns(record):
        return Format.openai
    if not isinstance(record, Mapping):
        return None
    # Files with columns have every field in every record: fields with a value decide first.
    filled = {str(name) for name, value in record.items() if value is not None}
    return _detect_exactly(filled, reads) or _detect_exactly({str(name) for name in record}, reads)


def _detect_exactly(names: set[str], reads: Reads) -> Format | None:
    if reads.running_text and "text" in names:
        return Format.text
    # From the most specific fields to the least: a pair may have messages or a prompt, too.
    if {"chosen", "rejected"} <= names:
        return Format.preference
    if reads.compares and "messages" in names and names & {*REJECTED}:
        return Format.preference
    if "label" in names and (
        Format.kto in reads.formats or (reads.compares and names & {*TURNS, "instruction", "completion"})
    ):
        return Format.kto
    # A preference or a label was not found: the record is a conversation.
    for name, format in (
        ("messages", Format.openai),
        ("conversations", Format.sharegpt),
        ("instruction", Format.alpaca),
    ):
        if name in names:
            return format
    if "prompt" in names:
        # A stage that generates the answers passes every other column to its reward.
        answered = "response" in names if reads.prompts else bool(names & set(ANSWERS))
        return Format.alpaca if answered else Format.prompts
    if {"input", "output"} <= names:
        return Format.alpaca
    return Format.text if "text" in names else None


def rename_fields(record: Any, columns: Mapping[str, str], reading: Reading) -> Fields:
    """Returns the record with our field names; a renamed column has its new name only. Raises Wrong."""
    if is_turns(record) and not columns:
        # A record that is a bare list of turns: the list gets the name of a field.
        record = {TURNS[0]: record}
    if not isinstance(record, Mapping):
        raise Wrong("record", "expected an object, found {kind}", kind=describe_kind(record))
    for ours, theirs in columns.items():
        if not has_column(record, theirs):
            hint = suggest_similar(theirs, map(str, record))
            raise Wrong(
                theirs, "data.columns reads {field} from this column, which is missing.{hint}", field=ours, hint=hint
            )
    return Fields(rename_keys(record, columns), reading)


def list_unread_columns(record: Any, fields: Fields, columns: Mapping[str, str]) -> list[str]:
    """Returns the columns of the file that were not used."""
    if not isinstance(record, Mapping) or (is_turns(record) and not columns):
        return []
    # The names in the file of the fields that were read.
    read = {columns.get(name, name) for name in fields.seen if name in columns or name not in columns.values()}
    unread = [
        str(name) for name, value in record.items() if not is_nothing(value) and name not in read and name != "id"
    ]
    # Columns of which only a part was read: their other parts count as unread.
    inner = {find_root(record, column) for column in columns.values() if column in read and column not in record}
    return [
        path for name in unread for path in (list_unread_paths(record[name], name, read) if name in inner else [name])
    ]


def convert_record(record: Fields, format: Format) -> Found:
    """Converts a record with our field names to messages or a text. Raises Wrong."""
    # Read as a conversation, a pair would lose its rejected answer unnoticed.
    if format is not Format.text and record.has("chosen") and record.has("rejected"):
        raise Wrong("rejected", PAIR)
    return CONVERTERS[format](record)


def convert_text(record: Fields) -> Found:
    """Converts `{text}`."""
    return None, read_text(record, "text")


def convert_alpaca(record: Fields) -> Found:
    """Converts `{instruction, input, output, system, history}`; the question may be `prompt`, the answer `response` or
    `completion`, and the reasoning before it `reasoning_content`, `thinking` or `reasoning`.

    Question and answer may be messages. Of messages only those of the answer are learned, as in TRL.
    """
    question = read_question(record)
    if record.reading.asks and record.first(*ANSWERS) is None:
        return build_conversation(record, question), None
    name = record.first(*ANSWERS) or ANSWERS[0]
    if isinstance(record.get(name), list | Mapping):
        answer = read_turns(wrap_in_list(record[name]), name, record.reading)
    else:
        # A stage that generates the answers passes unread columns to its reward, so this one must stay unread.
        thought = None if record.reading.asks else next((key for key in REASONING if _is_text(record, key)), None)
        reasoning = read_text(record, thought, empty=True) if thought else ""
        answer = [Turn(name, Message("assistant", read_text(record, name), reasoning=reasoning))]
    return build_conversation(record, [*question, *answer]), None


def read_question(record: Fields) -> list[Turn]:
    """Reads the turns of `instruction` or `prompt` with `input` (or Dolly's `context`), after those of `history`.

    Raises Wrong.
    """
    name = record.first(*QUESTIONS) or ("input" if "input" in record else QUESTIONS[0])
    if isinstance(record.get(name), list | Mapping):
        turns = read_turns(wrap_in_list(record[name]), name, record.reading)
        # Answers inside of the question are context.
        return [Turn(place, replace(message, learned=message.role != "assistant")) for place, message in turns]
    # A stage that generates the answers passes every column that is not read to its reward.
    takes_context = (
        name == "instruction" and not record.has("input") and not record.reading.asks and _is_text(record, "context")
    )
    more = "context" if takes_context else "input"
    # dict.fromkeys: if the question itself is in `input`, it is read once.
    parts = [read_text(record, part) for part in dict.fromkeys((name, more)) if not is_blank(record.get(part))]
    # Without a part, read_text raises the error for the missing or empty question.
    question = "\n".join(parts) or read_text(record, name)
    return [*_read_history(record), Turn(name, Message("user", question))]


def _is_text(record: Fields, name: str) -> bool:
    """Returns whether a field is text; does not count as reading it."""
    # By items(), because get() and [] mark the field as read.
    return record.has(name) and any(key == name and isinstance(value, str) for key, value in record.items())


def _read_history(record: Fields) -> list[Turn]:
    turns: list[Turn] = []
    pairs = [] if is_blank(record.get("history")) else read_list(record, "history")
    if is_turns(pairs):
        return read_turns(pairs, "history", record.reading)
    for n, pair in enumerate(pairs):
        place = f"history[{n}]"
        # A chatbot's greeting: an answer without a question.
        if n == 0 and isinstance(pair, list) and len(pair) == 2 and is_blank(pair[0]):
            turns.append(Turn(f"{place}[1]", Message("assistant", to_text(pair[1], f"{place}[1]", record.reading))))
            continue
        if not isinstance(pair, list) or len(pair) != 2:
            raise Wrong(place, "expected a pair of question and answer")
        for role, at, value in zip(("user", "assistant"), (place, f"{place}[1]"), pair, strict=True):
            turns.append(Turn(at, Message(role, to_text(value, at, record.reading))))
    return turns


def convert_sharegpt(record: Fields) -> Found:
    """Converts `{conversations: [{from, value}], system, tools}`."""
    return _convert_chat(record, "conversations", "messages")


def convert_openai(record: Fields) -> Found:
    """Converts `{messages: [{role, content, tool_calls}], tools}`."""
    return _convert_chat(record, "messages", "conversations")


def _convert_chat(record: Fields, *names: str) -> Found:
    name = record.first(*names) or names[0]
    if name not in record:
        raise Wrong(name, "is missing")
    return build_conversation(record, read_turns(record[name], name, record.reading)), None


def convert_prompts(record: Fields) -> Found:
    """Converts `{prompt, system}`: a text, or messages that end with a question.

    The other columns are passed to the reward.
    """
    if isinstance(record.get("prompt"), list | Mapping):
        turns = read_turns(wrap_in_list(record["prompt"]), "prompt", record.reading)
    else:
        turns = [Turn("prompt", Message("user", read_text(record, "prompt")))]
    return build_conversation(record, turns, answered=False), None


def wrap_in_list(value: Any) -> Any:
    """Returns one turn as a list of one, and anything else as it is."""
    return [value] if isinstance(value, Mapping) and not is_turns(value) else value


def split_answer(
    messages: Conversation, record: Any, fields: Fields, columns: Mapping[str, str]
) -> tuple[Conversation, dict[str, Any]]:
    """Returns the conversation up to its last question, and the columns for the reward: the last answer, and the
    columns that were not read."""
    given: dict[str, Any] = {}
    if isinstance(record, Mapping):
        # The reward also gets the mapped columns, under their names in the file.
        roots = (find_root(record, column) for column in columns.values())
        unread = {*list_unread_columns(record, fields, columns), *columns.values(), *roots}
        given = {
            str(name): value
            for name, value in record.items()
            if name in unread or (value is None and name not in fields.seen)
        }
        given.pop("id", None)
    if messages[-1].role == "assistant":
        answer = messages[-1]
        parts = [answer.content, write_calls(answer.tool_calls)]
        # A column of the file that is named `answer` replaces the answer of the conversation.
        given = {"answer": "\n".join(part for part in parts if part)} | given
        messages = messages[:-1]
    return messages, given


def build_conversation(record: Fields, turns: Sequence[Turn], answered: bool = True) -> Conversation:
    """Makes a conversation of the turns, with the record's system text and functions. Raises Wrong."""
    if not is_blank(record.get("system")):
        system, first = read_parts(record, "system"), turns[0].message
        # Some files repeat the system text as the first turn: it must not appear twice.
        if first.role != "system" or first.content.strip() != system.strip():
            turns = [Turn("system", Message("system", system)), *turns]
    return Conversation(
        tuple(_order_messages(turns, record.reading, answered)), read_tools(record), read_arguments(record)
    )


def _order_messages(turns: Sequence[Turn], reading: Reading, answered: bool) -> list[Message]:
    """Returns the messages: questions and answers alternate, the last one is an answer (or a question), and system
    messages may be anywhere.

    Raises Wrong.
    """
    kept: list[Message] = []
    turns, greeted = _mask_greeting(turns, reading)
    # `before` is the role of the last turn that is not a system message.
    before = ""
    for turn in turns:
        role, last = turn.message.role, kept[-1].role if kept else ""
        if role in ("assistant", "tool") and before == "" and not greeted:
            raise Wrong(turn.place, "the answer comes before any question")
        if (role, before) in (("user", "tool"), ("tool", "user")):
            raise Wrong(
                turn.place, "a {role} turn follows a {before} turn without an answer between", role=role, before=before
            )
        if role == "tool" and last == "system":
            raise Wrong(turn.place, "a system message comes between a call and its result")
        # Several results of calls may follow each other; other turns of one role are joined.
        if role == last and role != "tool":
            kept[-1] = join_turns(kept[-1], turn, reading)
        else:
            kept.append(turn.message)
        before = before if role == "system" else role
    return _cut_to_end(kept, turns[-1].place, reading, answered)


def _mask_greeting(turns: Sequence[Turn], reading: Reading) -> tuple[Sequence[Turn], bool]:
    """Masks the answers before the first question; returns the turns, and whether there were any.

    The greeting of a chatbot is context: it answers no question, so it is not learned.
    """
    first = next((n for n, turn in enumerate(turns) if turn.message.role in ("user", "tool")), len(turns))
    early = [turn.message for turn in turns[:first] if turn.message.role == "assistant"]
    # A call, or a tool's result, before any question is not a greeting; the order of turns refuses it later.
    if (
        not early
        or first == len(turns)
        or turns[first].message.role == "tool"
        or any(message.tool_calls for message in early)
    ):
        return turns, False
    reading.remarks.add(GREETING)
    masked = [
        Turn(turn.place, replace(turn.message, learned=turn.message.role != "assistant")) for turn in turns[:first]
    ]
    return [*masked, *turns[first:]], True


def _cut_to_end(kept: list[Message], place: str, reading: Reading, answered: bool) -> list[Message]:
    """Returns the messages up to the last answer, or a prompt up to its question. Raises Wrong if there is none.

    A stage that generates the answers accepts conversations with and without one.
    """
    last, first = kept[-1].role, next((n for n, message in enumerate(kept) if message.role == "user"), len(kept))
    if not answered and last == "assistant":
        raise Wrong(place, "the last turn is an answer: there is no question to answer")
    if (not answered or reading.asks) and first == len(kept):
        raise Wrong(place, "a system message only: there is no question to answer")
    if not answered or reading.asks or last == "assistant":
        return kept
    answers = [n for n in range(first, len(kept)) if kept[n].role == "assistant"]
    if not answers:
        raise Wrong(place, "the last turn has the role {role}: there is no answer to learn", role=last)
    reading.remarks.add(NOT_ANSWERED)
    # The turns after the last answer are the context of no answer.
    return kept[: answers[-1] + 1]


CONVERTERS: dict[Format, Callable[[Fields], Found]] = {
    Format.alpaca: convert_alpaca,
    Format.sharegpt: convert_sharegpt,
    Format.openai: convert_openai,
    Format.text: convert_text,
    Format.prompts: convert_prompts,
}
