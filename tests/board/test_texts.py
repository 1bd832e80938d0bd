"""Every text of the page has an id of its own and is found in both languages."""

from __future__ import annotations

from fulgurite.board.texts import list_texts
from fulgurite.language.current import use_language


def test_ids_name_the_screen_first() -> None:
    screens = {name.partition(".")[0] for name in list_texts()}
    assert screens == {"shell", "start", "parameters", "plan", "run", "runs", "learn"}


def test_texts_differ_between_the_languages() -> None:
    with use_language("zh"):
        chinese = {name: str(text) for name, text in list_texts().items()}
    same = [name for name, text in list_texts().items() if chinese[name] == text.english]
    assert same == []
