"""The wheel has everything that a run needs, nothing of ours beside it, and works from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import fulgurite, sys
from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.config.paths import find_conf_dir
assert main(["explain", "optim.lr"]) == 0
print(compose(["model=tiny"]).choices["model"], find_conf_dir(), fulgurite.__file__, sep="\\n")
"""


@pytest.mark.slow
def test_the_wheel_is_whole_and_works_from_any_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    inside = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    tops = {path.parts[0] for path in inside}
    assert len(tops) == 3
    # Hydra finds plug-ins there alone
    assert all(top in ("fulgurite", "hydra_plugins") or top.endswith(".dist-info") for top in tops)
    for folder, kind in (("conf", "*.yaml"), ("sweeps", "*.yaml")):
        expected = {Path("fulgurite", *path.relative_to(ROOT).parts) for path in (ROOT / folder).rglob(kind)}
        assert expected, folder
        assert expected <= inside, folder
    for kind in ("*.py", "*.pyi", "py.typed", "*.jinja", "*.jsonl", "*.yaml", "*.css", "*.js", "*.html"):
        expected = {path.relative_to(ROOT / "src") for path in (ROOT / "src" / "fulgurite").rglob(kind)}
        assert expected, kind
        assert expected <= inside, kind
    strange = {
        p
        for p in inside
        if p.parts[0] == "fulgurite" and ({"tests", "runs", "__pycache__"} & set(p.parts) or p.suffix == ".pyc")
    }
    assert strange == set()

    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=elsewhere, env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("optim.lr = empty")
    assert done.stdout.splitlines()[-3:] == [
        "tiny", str(target / "fulgurite" / "conf"), str(target / "fulgurite" / "__init__.py"),
    ]
