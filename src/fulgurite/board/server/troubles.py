"""What is printed and answered if a route fails in a way that nobody expected."""

from __future__ import annotations

import logging

from fulgurite.board.server.json_http import hide_secrets
from fulgurite.foreign_code import describe_error
from fulgurite.language.message import UserMessage, message
from fulgurite.text.console import to_one_line

LOG = logging.getLogger("fulgurite.board")


def report_unexpected(error: BaseException) -> UserMessage:
    """Prints one line with the error on the terminal, and returns a sentence for the browser without its details.

    The text of an exception can contain anything, also a path or a key; a traceback is printed with --debug only.
    """
    LOG.warning("%s", hide_secrets(to_one_line(describe_error(error))), exc_info=LOG.isEnabledFor(logging.DEBUG))
    return message("The board failed ({kind}); its terminal has the details.", kind=type(error).__name__)
