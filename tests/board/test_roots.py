"""Nothing outside of the folders of the command line is named, listed or opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fulgurite.board.http_error import HttpError
from fulgurite.board.roots import Roots, make_run_id
from fulgurite.errors import ConfigError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Returns a folder with the root `runs`, and around it everything that must not be reached."""
    for folder in ("runs/a", "runs/.hidden", "runs_evil", "Runs", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("runs/a/config.yaml", "runs/.netrc", "runs/.hidden/key", "runs_evil/secret", "outside/secret",
                 "Runs/secret", "secret"):
        (tmp_path / file).write_text("text", encoding="utf-8")
    for name, target in {"out": "outside", "file_out": "outside/secret", "etc": "/etc", "null": "/dev/null",
                         "gone": "nowhere", "loop": "runs/loop", "hidden": "runs/.hidden", "good": "runs/a"}.items():
        (tmp_path / "runs" / name).symlink_to(tmp_path / target)
    os.mkfifo(tmp_path / "runs" / "pipe")
    return tmp_path


HOSTILE = [
    "", "..", "../secret", "runs/../secret", "a/../../secret", "/etc/passwd", "/", "/dev/zero", "/proc/self/environ",
    "%2e%2e%2fsecret", "%252e%252e%252fsecret", "..\\secret", "runs\\..\\secret", "a\0", "runs/a\0.yaml", "a\n",
    "runs_evil/secret", "../runs_evil/secret", "Runs/secret", "RUNS/a", "out", "out/secret",
    "runs/out/secret", "file_out", "etc/passwd", "null", "gone", "loop", "pipe", ".netrc", "runs/.netrc", ".hidden/key",
    "hidden/key", "~/.ssh", "~root", "file:///etc/passwd", "//etc/passwd", "x" * 5000, "/".join(["a"] * 1500),
    "C:\\Windows", "\u202e", "runs",
]


@pytest.mark.parametrize("word", [word for word in HOSTILE if word != "runs"])
def test_hostile_path_is_refused_and_opens_nothing(base: Path, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = Roots(["runs"], base)
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda *given, **_: opened.append(given) or 0)
    for ask in (roots.resolve, roots.read_text):
        with pytest.raises(HttpError) as refused:
            ask(word)
        assert refused.value.status in (403, 404)
        assert str(base) not in str(refused.value)
    assert opened == []


@pytest.mark.parametrize("there", ["outside/secret", "/etc/passwd", "Runs/secret", "{base}/secret"])
def test_refusal_does_not_tell_whether_the_file_exists(base: Path, there: str) -> None:
    refusals = []
    for word in (there, f"{there}-is-not-there"):
        with pytest.raises(HttpError) as refused:
            Roots(["runs"], base).resolve(word.format(base=base))
        refusals.append((refused.value.status, str(refused.value)))
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("word", ["runs/a/config.yaml", "a/config.yaml", "good/config.yaml", "runs/./a/config.yaml"])
def test_path_is_relative_to_the_start_or_to_a_root(base: Path, word: str) -> None:
    roots = Roots(["runs"], base)
    expected = base / "runs" / "a" / "config.yaml"
    assert roots.resolve(word) == expected
    assert roots.resolve(str(expected)) == expected
    assert roots.read_text(word) == "text"
    assert roots.shorten(expected) == "runs/a/config.yaml"


def test_link_that_replaces_a_file_after_the_check_is_not_followed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = Roots(["runs"], base)
    real = roots.resolve("a/config.yaml")
    real.unlink()
    real.symlink_to(base / "secret")
    monkeypatch.setattr(Roots, "resolve", lambda self, word: real)
    with pytest.raises(HttpError):
        roots.read_text("a/config.yaml")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows where an open file is")
def test_folder_that_becomes_a_link_after_the_check_is_not_followed(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = Roots(["runs"], base)
    real = roots.resolve("a/config.yaml")
    (base / "runs" / "a").rename(base / "runs" / "b")
    (base / "runs" / "a").symlink_to(base / "outside")
    (base / "outside" / "config.yaml").write_text("secret", encoding="utf-8")
    monkeypatch.setattr(Roots, "resolve", lambda self, word: real)
    with pytest.raises(HttpError):
        roots.read_text("a/config.yaml")


def test_large_and_binary_files_are_refused(base: Path) -> None:
    roots = Roots(["runs"], base)
    (base / "runs" / "binary").write_bytes(b"\xff\xfe\x00")
    for word, most in (("a/config.yaml", 3), ("binary", 100), ("a", 100)):
        with pytest.raises(HttpError) as refused:
            roots.read_text(word, most)
        assert refused.value.status == 422


def test_listing_shows_what_can_be_opened(base: Path) -> None:
    (base / "runs" / "a" / "status.json").touch()
    (base / "runs" / "m").mkdir()
    (base / "runs" / "m" / "config.json").touch()
    roots = Roots(["runs"], base)
    folder, entries = roots.list_folder()
    assert folder == base / "runs"
    assert [(entry.name, entry.kind, entry.path) for entry in entries] == [
        ("a", "run", "runs/a"), ("good", "run", "runs/good"), ("m", "model", "runs/m"),
    ]
    assert all(roots.resolve(entry.path).is_dir() for entry in entries)
    with pytest.raises(HttpError):
        roots.list_folder("a/config.yaml")


def test_innermost_root_is_named(base: Path) -> None:
    roots = Roots(["runs", "runs/a", "runs"], base)
    assert roots.names == ["runs", "runs/a"]
    assert roots.find_root(base / "runs" / "a" / "config.yaml") == (1, "config.yaml")
    assert roots.find_root(base / "runs") == (0, ".")
    with pytest.raises(HttpError):
        roots.find_root(base / "outside")
    assert roots.contains(base / "runs" / "good")
    assert not roots.contains(base / "runs" / "out")


@pytest.mark.parametrize("folder", ["nothing", "secret", "/"])
def test_wrong_roots_are_refused_at_the_start(base: Path, folder: str) -> None:
    with pytest.raises(ConfigError):
        Roots([folder], base)


def test_start_folder_is_the_root_by_default(base: Path) -> None:
    assert Roots([], base).folders == (base,)


def test_ids_of_runs_are_those_of_their_real_folders(base: Path) -> None:
    assert make_run_id(base / "runs" / "a") == make_run_id(base / "runs" / "good")
    assert len(make_run_id(base / "runs")) == 16
    assert int(make_run_id(base / "runs"), 16) != int(make_run_id(base / "runs" / "a"), 16)
