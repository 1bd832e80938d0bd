"""Whether a W&B server takes our key, asked before wandb starts: its own attempt blocks for minutes, then raises."""

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

QUESTION = json.dumps({"query": "query Viewer { viewer { entity } }"}).encode()
"""What wandb itself asks first: who am I?"""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def find_key(base_url: str) -> str:
    """The API key from WANDB_API_KEY or the netrc file, where `wandb login` puts it; empty where there is none."""
    if key := os.environ.get("WANDB_API_KEY", "").strip():
        return key
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            found = netrc.netrc(path.expanduser()).authenticators(urlsplit(base_url).netloc)
            if found and found[2]:
                return found[2]
    return ""


def probe_key(base_url: str, key: str, wait: float) -> str:
    """Ask the server who the key belongs to: why it is of no use, or nothing where it took the key. Never raises.

    It takes at most `wait` seconds altogether: on a thread, because a socket's timeout begins anew with each byte.
    """
    answers: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: answers.put(_ask_server(base_url, key, wait)), daemon=True).start()
    try:
        return answers.get(timeout=wait)
    except queue.Empty:
        return f"{base_url} does not answer within {wait:g} s"


def _ask_server(base_url: str, key: str, wait: float) -> str:
    token = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    try:
        request = urllib.request.Request(f"{base_url.rstrip('/')}/graphql", QUESTION, headers)
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=wait) as reply:
            viewer = (json.loads(reply.read(1_000_000)).get("data") or {}).get("viewer")
    except urllib.error.HTTPError as error:
        error.close()
        why = "refuses the API key" if error.code in (401, 403) else f"answers {error.code}"
        return f"{base_url} {why}"
    except TimeoutError:
        return f"{base_url} does not answer within {wait:g} s"
    except (OSError, urllib.error.URLError) as error:
        return f"{base_url} cannot be reached ({getattr(error, 'reason', error)})"
    except Exception as error:
        # http.client and json have many ways to say that this is no W&B server; none may end a run.
        return f"{base_url} does not answer like a W&B server ({type(error).__name__})"
    return "" if isinstance(viewer, dict) else f"{base_url} does not know the API key"
