"""Errors of libraries inside sentences: the same words as before in English, and no English in Chinese."""

from __future__ import annotations

import errno
import json
import os
import re

import pytest
import yaml

from fulgurite.language.current import use_language
from fulgurite.language.library_errors import (
    SYSTEM,
    quote_foreign,
    translate_argparse,
    translate_error,
    translate_json_fault,
    translate_system_error,
)
from fulgurite.language.message import message

WORDS = re.compile(r"[A-Za-z]{2,}")


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[1 2]", '"a', '"\\q"', '"\\u12"', '"\x01"', "1 2", "{1: 2}"])
def test_errors_of_json_are_translated(text: str) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    assert str(translate_error(caught.value)) == str(caught.value)
    with use_language("zh"):
        assert not WORDS.sub("", str(translate_error(caught.value))).isascii()
        assert set(WORDS.findall(str(translate_error(caught.value)))) <= {"uXXXX", "UTF", "BOM"}


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\tx", "a: *x", "{a", "- a\nb", "a: 'x", "@x", "a: !!b c", "a:\n  - b\n c", '"\\q"'],
)
def test_errors_of_yaml_are_translated(text: str, loader: type[yaml.SafeLoader]) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.load(text, Loader=loader)
    assert re.fullmatch(r".+, line \d+, column \d+", str(translate_error(caught.value)))
    with use_language("zh"):
        assert set(WORDS.findall(str(translate_error(caught.value)))) <= {"tag"}


@pytest.mark.parametrize("number", SYSTEM)
def test_errors_of_the_system_have_its_words_in_english_and_ours_in_chinese(number: int) -> None:
    error = OSError(number, os.strerror(number), "a.json")
    assert str(translate_system_error(error)) == os.strerror(number)
    assert str(translate_error(error)) == str(error)
    assert str(translate_error(OSError(number, os.strerror(number)))) == f"[Errno {number}] {os.strerror(number)}"
    with use_language("zh"):
        assert not WORDS.search(str(translate_system_error(error)))


def test_other_errors_are_one_line_and_a_quotation() -> None:
    error = RuntimeError("two\n lines")
    assert str(translate_error(error)) == "two lines"
    assert str(translate_error(error, 3)) == "two"
    unknown = OSError(errno.ENOTTY, "no such thing")
    with use_language("zh"):
        assert str(translate_error(error)) == "“two lines”"
        assert str(quote_foreign("x  y")) == "“x y”"
        assert str(translate_system_error(unknown)) == "“no such thing”"
        assert str(translate_json_fault("A new fault")) == "“A new fault”"


def test_our_own_sentence_inside_an_error_stays_a_sentence() -> None:
    own = message("not a regular file")
    assert translate_error(ValueError(own)) is own


@pytest.mark.parametrize(("complaint", "chinese"), [
    ("argument --lang: expected one argument", "选项 --lang 缺少值"),
    ("argument -c: invalid choice: 'a' (choose from 'b')", "选项 -c 的值 'a' 无效（可选：'b'）"),
    ("argument --port: 端口", "选项 --port：端口"),
    ("unrecognized arguments: a b", "不认识的词：a b"),
])
def test_argparse_complaint_is_translated(complaint: str, chinese: str) -> None:
    assert str(translate_argparse(complaint)) == complaint
    with use_language("zh"):
        assert str(translate_argparse(complaint)) == chinese
