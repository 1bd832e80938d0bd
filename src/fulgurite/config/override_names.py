"""The names in overrides: which parameter one sets, and keys of mappings in signs that Hydra reads."""

from __future__ import annotations

import re

HEX = "hex_of_utf8_"
HEX_KEY = re.compile(HEX + "((?:[0-9a-f]{2})+)")


def read_name(text: str) -> str:
    """The parameter or group that an override sets."""
    return text.lstrip("+~").partition("=")[0].strip()


def encode_key(key: str) -> str:
    """A key of a mapping in hexadecimal digits: Hydra reads few signs in a key."""
    return HEX + key.encode("utf-8", "surrogateescape").hex()


def decode_key(key: str) -> str:
    """A key of a mapping as it was typed."""
    found = HEX_KEY.fullmatch(key)
    return bytes.fromhex(found[1]).decode("utf-8", "surrogateescape") if found else key
