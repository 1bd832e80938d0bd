"""Starting a run from a draft: the words of the command, its folder, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.board.run_folders import wait_until
from tests.board.server.client import make_board, make_client

from fulgurite.board.launches import Launches, LaunchRecord
from fulgurite.board.server.run_services import RunServices
from fulgurite.board.server.run_start import choose_home, start_run
from fulgurite.board.server.state import Board
from fulgurite.config.overrides import quote_verbatim, read_value
from fulgurite.errors import ConfigError, FulguriteError, RequestError

STUB = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (tmp_path / "stub.py").write_text(STUB)
    (tmp_path / "root").mkdir()
    board = make_board(tmp_path / "root")
    command = [sys.executable, "-I", str(tmp_path / "stub.py")]
    board.get_service("launches", lambda: Launches(board.cache / "launches", board.roots.base, command))
    return board


def start(board: Board, **body: Any) -> LaunchRecord:
    services = RunServices(board)
    return services.launches.find(start_run(services, body | {"anyway": True})["launch"]["id"])


def read_words(board: Board, record: LaunchRecord) -> list[str]:
    launches = board.get_service("launches", Launches)
    wait_until(lambda: not launches.is_alive(record) and launches.read_exit(record) == 0)
    words: list[str] = json.loads(launches.read_output(record))
    return words


def test_words_are_those_of_the_draft_and_a_new_folder(board: Board) -> None:
    draft = {"choices": {"stage": "dpo", "method": "lora"}, "values": {"optim.lr": "1e-4"}}
    record = start(board, draft=draft)
    words = read_words(board, record)
    assert words[:4] == ["train", "stage=dpo", "method=lora", "optim.lr=1e-4"]
    assert words[4:] == [f"run_dir={quote_verbatim(record.folder)}"]
    place = Path(record.folder)
    assert place.parent.parent == board.roots.folders[0] / "runs"
    assert place.name.endswith("_dpo-lora")
    assert record.command == "fulgurite train stage=dpo method=lora optim.lr=1e-4"


def test_two_runs_of_one_second_have_two_folders(board: Board) -> None:
    assert len({start(board, draft={}).folder for _ in range(3)}) == 3


def test_name_is_that_of_the_run_and_its_folder(board: Board) -> None:
    record = start(board, draft={}, name="my-run_1.0")
    assert "name=my-run_1.0" in read_words(board, record)
    assert record.folder.endswith("_my-run_1.0")


@pytest.mark.parametrize("name", ["../x", "a b", "a/b", "..", "x" * 65, "$(id)", "名", ["a"], 7, "<img onerror>"])
def test_another_name_is_refused(board: Board, name: Any) -> None:
    with pytest.raises(ConfigError, match="A name has at most"):
        start(board, draft={}, name=name)
    assert not (board.roots.folders[0] / "runs").exists()


def test_search_has_its_folder_beforehand(board: Board) -> None:
    record = start(board, draft={"adds": {"sweep": "sft_lora"}, "values": {"sweep.trials": "4"}})
    words = read_words(board, record)
    assert words[:2] == ["train", "-m"]
    assert words[2:4] == ["+sweep=sft_lora", "sweep.trials=4"]
    assert Path(record.folder).parent == board.roots.folders[0] / "runs" / "sweeps"
    assert words[4] == f"run_dir={quote_verbatim(record.folder)}"
    assert record.kind == "sweep"


PAYLOADS = [
    "$(touch marker)", "`touch marker`", "; touch marker", "| touch marker", "&& touch marker", "a' 'b", 'a" "b', "*",
    "~root", "$HOME", "--help", "-m", "a,b", "x=1", "[a,b]", "{a: 1}", "${oc.env:HOME}", "> marker", "\u202emarker",
    "中文 文件", "null", "choice(a,b)", "\\", "a\\'b", "!x",
]


@pytest.mark.parametrize("text", PAYLOADS)
def test_a_payload_in_a_text_is_one_argument_that_reads_as_it_was_typed(board: Board, text: str) -> None:
    """T36: a stub in place of the command sees one argument, and Hydra reads in it what was typed."""
    words = read_words(board, start(board, draft={"values": {"data.template": text}}))
    [word] = [word for word in words if word.startswith("data.template=")]
    assert len(words) == 3
    if text != "null":
        assert str(read_value(word.partition("=")[2])).replace("\\${", "${") == text
    # `rglob` fails if the stub's folder is removed while it walks
    assert not [files for _, _, files in os.walk(board.roots.base) if "marker" in files]


@pytest.mark.parametrize("values", [
    {"plugins": "x"}, {"model.trust_remote_code": "true"}, {"hydra.run.dir": "/tmp/x"}, {"run_dir": "/tmp/outside"},
    {"data.path": "/etc/passwd"}, {"resume.run": "."}, {"optim.lr": "1e-4; id"}, {"+x": "1"}, {"~optim": ""},
])
def test_what_the_page_may_not_set_starts_nothing(board: Board, values: dict[str, str]) -> None:
    with pytest.raises(FulguriteError):
        start(board, draft={"values": values})
    assert board.get_service("launches", Launches).list_records() == []
    assert not (board.roots.folders[0] / "runs").exists()


def test_a_folder_of_ones_own_is_taken(board: Board) -> None:
    record = start(board, draft={"values": {"run_dir": "mine"}})
    assert record.folder == str(board.roots.base / "mine")
    assert [word for word in read_words(board, record) if word.startswith("run_dir=")] != []


def test_an_unwritable_root_is_one_sentence(board: Board) -> None:
    (board.roots.folders[0] / "runs").write_text("a file")
    with pytest.raises(RequestError, match="cannot be created"):
        start(board, draft={})


def test_folder_of_a_launch_that_failed_is_removed(board: Board) -> None:
    (board.cache / "launches").write_text("a file")
    with pytest.raises(RequestError, match="cannot be started"):
        start(board, draft={})
    assert not list((board.roots.folders[0] / "runs").glob("*/*"))


@pytest.mark.parametrize(("name", "made", "home"), [
    ("runs", "x", "runs"), ("work", "x", "work/runs"), ("work", "2026-01-01", "work"),
])
def test_new_runs_go_to_the_folder_of_runs(tmp_path: Path, name: str, made: str, home: str) -> None:
    (tmp_path / name / made).mkdir(parents=True)
    assert choose_home(tmp_path / name) == tmp_path / home


def test_route_answers_with_the_launch(board: Board) -> None:
    with make_client(board) as client:
        found = client.post("/api/runs", json={"draft": {"choices": {"stage": "sft"}}})
        assert found.status_code == 202
        assert found.json()["launch"]["kind"] == "train"
        refused = client.post("/api/runs?lang=zh", json={"draft": {"values": {"optim.lr": "x"}}})
        assert refused.status_code == 422
        assert "optim.lr" in refused.json()["error"]
