"""The parameters of export: which types it writes, and its defaults."""

from __future__ import annotations

import pytest

from fulgurite.config.arguments import parse
from fulgurite.config.export_arguments import Export, ExportDtype
from fulgurite.errors import ConfigError


def test_an_export_merges_the_best_checkpoint_in_the_base_s_own_dtype() -> None:
    found = parse(Export, ["run=a", "out=b"], "export")
    assert found == Export(run="a", out="b", checkpoint="best", merge=True, dtype=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_each_dtype_that_can_be_written(dtype: str) -> None:
    assert parse(Export, [f"dtype={dtype}"], "export").dtype is ExportDtype(dtype)


def test_another_dtype_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="dtype must be one of float32, bfloat16, float16"):
        parse(Export, ["dtype=int8"], "export")
