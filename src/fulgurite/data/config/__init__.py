"""Dataset: its files and format, and how examples are cut, masked, packed and split."""

from fulgurite.data.config.base import RESERVED, Data, Format, Mask, Packing, SpecialTokens, TooLong
from fulgurite.data.config.guide import Guide, GuideForm, GuidePreference, GuidePrompts
from fulgurite.data.config.own_files import File

__all__ = [
    "RESERVED",
    "Data",
    "File",
    "Format",
    "Guide",
    "GuideForm",
    "GuidePreference",
    "GuidePrompts",
    "Mask",
    "Packing",
    "SpecialTokens",
    "TooLong",
]
