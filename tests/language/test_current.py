"""The language in use: a block's, else the process's, which a thread sees too."""

from __future__ import annotations

import os
import threading

import pytest

from fulgurite.language.current import VARIABLE, detect_language, get_language, set_language, use_language


def test_a_block_has_its_own_language() -> None:
    with use_language("zh"):
        assert get_language() == "zh"
        with use_language("en"):
            assert get_language() == "en"
        assert get_language() == "zh"
    assert get_language() == "en"


def test_threads_and_child_processes_have_the_language_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    found = []
    set_language("zh", inherit=True)
    try:
        thread = threading.Thread(target=lambda: found.append(get_language()))
        thread.start()
        thread.join()
        assert (found, os.environ[VARIABLE]) == (["zh"], "zh")
        assert detect_language(os.environ | {"LC_ALL": "C"}) == "zh"
    finally:
        set_language("en")


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_ALL": "zh_TW"}, "zh"), ({"LC_ALL": "", "LC_MESSAGES": "zh_CN", "LANG": "de_DE"}, "zh"),
        ({"LANG": "de_DE"}, "en"),
    ],
)
def test_the_language_is_that_of_the_terminal(environment: dict[str, str], language: str) -> None:
    assert detect_language(environment) == language
