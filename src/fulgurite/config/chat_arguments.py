"""The parameters of `fulgurite chat`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fulgurite.config.schema import Empty, at_least, between, knob


@dataclass(slots=True)
class ChatConfig:
    """How `fulgurite chat` answers."""

    room: ClassVar[str] = "chat"

    run: str | None = knob(
        None, "The run folder whose trained model answers.", source="Ours", advice="fulgurite runs lists them.",
        empty=Empty("none: chat.model is given"),
    )
    model: str | None = knob(
        None, "The model that answers: a folder, a hub id, or an option such as smollm2_135m.", source="Ours",
        advice="Compare a run with the model it started from.", empty=Empty("none: chat.run is given"),
    )
    checkpoint: str = knob(
        "best", "Which checkpoint of the run answers: best, last, or step-N.", source="Ours",
        advice="last, when there was no validation part; best falls back to it.",
    )
    temperature: float = knob(
        0.7, "How freely tokens are drawn; 0 always takes the likeliest.",
        source="Common practice; transformers' own default is 1", bounds=between(0, 10), usual=between(0, 1),
        advice="0 to compare two models by their weights alone.",
        raise_when="For livelier answers.", lower_when="For steadier ones; 0 to compare two models.",
        interacts={"chat.top_p": "lowered, both make draws safer"},
    )
    top_p: float = knob(
        0.9, "Tokens are drawn from the likeliest ones that together have this probability.",
        source="Nucleus sampling, Holtzman et al., https://arxiv.org/abs/1904.09751",
        bounds=between(0, 1), usual=between(0.8, 1), advice="1 turns it off.",
        raise_when="For livelier answers; 1 turns it off.", lower_when="When odd words appear.",
        interacts={"chat.temperature": "lowered, both make draws safer"},
    )
    max_new_tokens: int = knob(
        512, "How many tokens an answer may have.", source="Ours; LLaMA-Factory's chat has 1024",
        bounds=at_least(1), usual=between(64, 2048), advice="An answer that hits it is marked as cut.",
        raise_when="When answers are marked as cut.", lower_when="When answers ramble.",
        time="In proportion to the length of the answer.",
    )
    seed: int | None = knob(
        None, "The seed of the draws.", source="Ours", bounds=at_least(0), usual=(1, 2, 3),
        advice="Give one to get the same answers again.", empty=Empty("a new one for each answer"),
        leave="No seed is better than another.",
    )
    system: str | None = knob(
        None, "The system message.", source="Ours", advice="Give the one that the training data has.",
        empty=Empty("none of ours; a template may have its own"),
    )
    tools: str | None = knob(
        None,
        "A file of functions that the model may call: .json (descriptions in OpenAI's form) or .py (its code runs).",
        source="Ours; the form of OpenAI's chat API and of transformers' apply_chat_template",
        advice="Give the functions that the training data has; docs/tools.md.",
        empty=Empty("none"), interacts={"chat.tool_rounds": "limits the calls in one answer"},
        misread="Without code nothing is computed: you type the result of each call.",
    )
    tool_rounds: int = knob(
        5, "How many times the model may call functions before it has to answer.",
        source="Ours; as a guard against endless calls", bounds=at_least(1), usual=between(1, 20),
        advice="More if a question needs several steps.", raise_when="When questions need more steps.",
        lower_when="When the model repeats the same call.", time="Each round generates once more.",
        interacts={"chat.tools": "without functions there are no rounds"},
    )
