"""The page without a cookie has no inline script or style, and asks for a password only if there is one."""

from __future__ import annotations

import re

import pytest

from fulgurite.board.server.login_page import build_login_page
from fulgurite.language.current import LANGUAGES, use_language


@pytest.mark.parametrize("language", LANGUAGES)
def test_form_appears_with_a_password_only(language: str) -> None:
    with use_language(language):
        with_form, without = build_login_page(True), build_login_page(False)
    assert '<form id="login">' in with_form
    assert "<form" not in without
    assert f'<html lang="{language}">' in without
    assert ("终端" in without) == (language == "zh")
    for page in (with_form, without):
        assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=|https?://", page)
