"""The words of the page that no declaration has, by id; the browser asks for them in its language."""

from __future__ import annotations

from fulgurite.board.texts import learn, parameters, plan, run, runs, shell, start
from fulgurite.language.message import UserMessage

SCREENS = {
    "shell": shell.TEXTS, "start": start.TEXTS, "parameters": parameters.TEXTS, "plan": plan.TEXTS, "run": run.TEXTS,
    "runs": runs.TEXTS, "learn": learn.TEXTS,
}
"""By screen: ids without the screen's name, and texts. Places such as {count} are filled in by the browser."""


def list_texts() -> dict[str, UserMessage]:
    """Returns every text by its id, such as `start.title`."""
    return {f"{screen}.{name}": text for screen, texts in SCREENS.items() for name, text in texts.items()}
