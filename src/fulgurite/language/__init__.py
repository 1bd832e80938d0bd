"""The languages of Fulgurite's texts: which one is spoken, what each text is in it, and sentences as data."""

from fulgurite.language.current import LANGUAGES, detect_language, get_language, set_language, use_language
from fulgurite.language.message import UserMessage, message, read_message

__all__ = [
    "LANGUAGES",
    "UserMessage",
    "detect_language",
    "get_language",
    "message",
    "read_message",
    "set_language",
    "use_language",
]
