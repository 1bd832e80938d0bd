"""Imports peft without torch's compiler, which takes half of the time of the import.

peft imports bitsandbytes if it is installed, and bitsandbytes decorates its fallback kernels with `torch.compile`,
which imports torch._inductor (peft 0.21, bitsandbytes 0.50, torch 2.13). Here they are compiled when they are first
called.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch


def import_peft() -> None:
    """Imports peft and bitsandbytes, if they are not imported yet."""
    if "peft" not in sys.modules:
        # on some CPUs it advises a package of kernels, which is not needed
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        with compile_at_first_call():
            importlib.import_module("peft")


@contextlib.contextmanager
def compile_at_first_call() -> Iterator[None]:
    """Defers the compilation of functions that are decorated with `torch.compile` inside the block."""
    compile_now: Callable[..., Any] = torch.compile

    def compile_later(function: Any = None, **options: Any) -> Any:
        # `@torch.compile(...)` with options: the function follows in a second call.
        if function is None:
            return functools.partial(compile_later, **options)
        # A module has attributes that a function in its place would lack, so it is compiled now.
        if not inspect.isfunction(function):
            return compile_now(function, **options)
        compiled: list[Any] = []

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not compiled:
                compiled.append(compile_now(function, **options))
            return compiled[0](*args, **kwargs)

        return call

    torch.compile = compile_later  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = compile_now
