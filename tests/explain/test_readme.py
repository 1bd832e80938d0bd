"""The generated tables of the README and of docs; the README's Python runs."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from fulgurite.config.schema import list_options
from fulgurite.explain import readme

PYTHON = re.findall(r"^```python\n(.*?)^```", (readme.ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture(autouse=True)
def options() -> None:
    readme.load_options()


def test_every_table_has_its_place() -> None:
    marks = [name for page in readme.PAGES for _, name, _ in readme.MARK.findall((readme.ROOT / page).read_text())]
    assert sorted(marks) == sorted(readme.TABLES)


def test_tables_name_every_option_and_loss() -> None:
    table = readme.build_options()
    assert all(f"`{name}`" in table for group in ("stage", "method", "optim", "data") for name in list_options(group))
    assert "`rslora`" in table
    assert "| `stage=dpo` | `sigmoid`, " in readme.build_losses()
    assert "| `stage=grpo` | `dapo`, " in readme.build_losses()


def test_a_stale_page_is_named_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "PAGES", ("a.md", "b.md"))
    (tmp_path / "a.md").write_text("<!-- made: losses -->\nold\n<!-- end -->\n", encoding="utf-8")
    (tmp_path / "b.md").write_text("no table\n", encoding="utf-8")
    assert readme.main(["--check"]) == 1
    assert "Stale tables in a.md:" in capsys.readouterr().out
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    assert "`stage=dpo`" in (tmp_path / "a.md").read_text(encoding="utf-8")


def test_a_mark_without_a_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        readme.refresh("<!-- made: nothing -->\n<!-- end -->")


@pytest.mark.parametrize("block", PYTHON)
def test_python_of_the_readme_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warnings.simplefilter("ignore")  # Lightning's advice; pytest puts the filters back
    exec(compile(block, "README.md", "exec"), {})
    assert list(tmp_path.glob("runs/*/*/metrics.jsonl"))


def test_the_readme_has_python() -> None:
    assert len(PYTHON) == 1
