"""The page for a browser without a cookie: how to open the board, and a form if there is a password."""

from __future__ import annotations

import re
from html import escape

from fulgurite.language.current import get_language
from fulgurite.language.message import UserMessage, message

CODE = re.compile(r"`([^`]+)`")
OPEN = message(
    "Open the address that `fulgurite board` prints in its terminal. It works once; when it was used, the terminal "
    "shows a new one."
)


def build_login_page(has_password: bool) -> str:
    """Returns the page in the language in use; its script and style are files, as the policy of the board asks."""
    sentence = CODE.sub(r"<code>\1</code>", _write(OPEN))
    body = f"<p>{sentence}</p>"
    if has_password:
        label, button = _write(message("Password")), _write(message("Log in"))
        body = (
            f'<form id="login"><label for="password">{label}</label><input id="password" type="password" '
            f'autocomplete="current-password" required autofocus><button>{button}</button></form>'
            f'<p id="answer" role="alert"></p>'
        )
    return (
        f'<!doctype html>\n<html lang="{get_language()}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_write(message('Fulgurite board'))}</title>"
        f'<link rel="stylesheet" href="/assets/login.css"><script type="module" src="/assets/login.js"></script>'
        f"</head><body><main><h1>{_write(message('Fulgurite board'))}</h1>{body}</main></body></html>\n"
    )


def _write(text: UserMessage) -> str:
    return escape(str(text))
