"""Checks before wandb starts whether its server accepts our key: wandb's own attempt blocks for minutes, then raises.
"""

from __future__ import annotations

import base64
import contextlib
import json
import netrc
import os
import queue
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fulgurite.language.library_errors import quote_foreign, translate_error
from fulgurite.language.message import UserMessage, message

QUESTION = json.dumps({"query": "query Viewer { viewer { entity } }"}).encode()
"""The query that wandb itself sends first: the owner of the key."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def find_key(base_url: str) -> str:
    """Returns the API key from WANDB_API_KEY or from the netrc file, which `wandb login` writes; empty if there is
    none."""
    if key := os.environ.get("WANDB_API_KEY", "").strip():
        return key
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            found = netrc.netrc(path.expanduser()).authenticators(urlsplit(base_url).netloc)
            if found and found[2]:
                return found[2]
    return ""


def probe_key(base_url: str, key: str, wait: float) -> UserMessage:
    """Asks the server for the owner of the key; returns why the key cannot be used, empty if it can. Never raises.

    Takes at most `wait` seconds altogether: on a thread, because a socket's timeout starts again with each byte.
    """
    answers: queue.Queue[UserMessage] = queue.Queue()
    threading.Thread(target=lambda: answers.put(_ask_server(base_url, key, wait)), daemon=True).start()
    try:
        return answers.get(timeout=wait)
    except queue.Empty:
        return _build_timeout(base_url, wait)


def _build_timeout(base_url: str, wait: float) -> UserMessage:
    return message("{server} does not answer within {seconds:g} s", server=base_url, seconds=wait)


def _ask_server(base_url: str, key: str, wait: float) -> UserMessage:
    token = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    try:
        request = urllib.request.Request(f"{base_url.rstrip('/')}/graphql", QUESTION, headers)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=wait) as reply:
            viewer = (json.loads(reply.read(1_000_000)).get("data") or {}).get("viewer")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return message("{server} refuses the API key", server=base_url)
        return message("{server} answers with HTTP status {code}", server=base_url, code=error.code)
    except TimeoutError:
        return _build_timeout(base_url, wait)
    except (OSError, urllib.error.URLError) as error:
        found = getattr(error, "reason", error)
        reason = translate_error(found) if isinstance(found, OSError) else quote_foreign(found)
        return message("{server} cannot be reached ({reason})", server=base_url, reason=reason)
    except Exception as error:
        # http.client and json raise many errors if this is not a W&B server; none may end a run.
        return message("{server} is not a W&B server ({error})", server=base_url, error=type(error).__name__)
    if isinstance(viewer, dict):
        return UserMessage()
    return message("{server} does not know the API key", server=base_url)
