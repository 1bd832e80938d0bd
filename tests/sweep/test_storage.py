"""One study, two searches at once: no trial twice, none too many, none lost with a process that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.sweep.test_search import Formula, begun, ran, trained, trials

from fulgurite.config.hydra_app import Outcome
from fulgurite.config.provenance import Composed
from fulgurite.errors import ConfigError
from fulgurite.sweep import study as kept
from fulgurite.sweep.search import Search, search
from fulgurite.sweep.storage import open_storage

WORDS = ["sweep.trials=6", "sweep.pruner=none", "sweep.sampler=random", "sweep.study=one"]

SEARCH = """
import sys
from pathlib import Path
from tests.sweep.test_search import Formula, ran
from tests.sweep.test_storage import WORDS
print("begins", flush=True)
sys.stdin.readline()
launch = Formula()
ran(Path(sys.argv[1]), launch, *WORDS, *sys.argv[2:])
print(len(launch.seen), flush=True)
"""


def other(code: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    """A search in a process of its own, which waits for a line."""
    begun = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(folder), *words], text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert begun.stdout is not None
    assert begun.stdout.readline() == "begins\n"
    return begun


def test_two_searches_share_the_trials_of_one_study(tmp_path: Path) -> None:
    both = [other(SEARCH, tmp_path) for _ in range(2)]
    for search_ in both:  # both begin at once, with a study that is not there yet
        assert search_.stdin is not None
        search_.stdin.write("\n")
        search_.stdin.flush()
    done = [int(search_.communicate(timeout=300)[0].split()[-1]) for search_ in both]
    assert [search_.returncode for search_ in both] == [0, 0]
    found = trials(tmp_path)
    assert sum(done) == 6
    assert [t["state"] for t in found] == ["complete"] * 6
    assert len({t["values"]["optim.lr"] for t in found}) == 6
    assert found[0]["values"] == {"optim.lr": 1e-3, "method.rank": 16}
    alone = ran(
        tmp_path / "alone", Formula(), *WORDS,
    )  # what a trial draws at random hangs on its number, not on who asks
    assert [t["values"] for t in found] == [t["values"] for t in alone]


def test_two_machines_share_a_study_in_a_database(tmp_path: Path) -> None:
    url = os.environ.get("FULGURITE_TEST_DATABASE")
    if not url:
        pytest.skip("FULGURITE_TEST_DATABASE names no database, such as postgresql:///test")
    name = f"fulgurite-{os.getpid()}"
    both = [
        other(SEARCH, tmp_path / folder, f"sweep.storage={url}", f"sweep.study={name}") for folder in ("one", "two")
    ]
    try:
        done = [int(search_.communicate("\n", timeout=300)[0].split()[-1]) for search_ in both]
        study = optuna.load_study(study_name=name, storage=open_storage(url))
        assert sum(done) == len(study.trials) == 6
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
        alone = ran(tmp_path / "alone", Formula(), *WORDS)
        assert sorted(t.value for t in study.trials) == sorted(t["value"] for t in alone)
    finally:
        optuna.delete_study(study_name=name, storage=open_storage(url))


class Dies(Formula):
    """Kills its process, as the machine would, in the middle of trial 2."""

    def one(self, job: list[str]) -> Outcome:
        if trained(job)["sweep.trial"] == "2":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().one(job)


KILLED = SEARCH.replace("import Formula, ran", "import ran").replace("import WORDS", "import WORDS, Dies as Formula")


def test_the_trial_of_a_search_that_is_killed_is_taken_up_by_the_other(tmp_path: Path) -> None:
    victim = other(KILLED, tmp_path)

    class Waits(Formula):
        """In its own first trial sees the other search come and die."""

        def one(self, job: list[str]) -> Outcome:
            if not self.seen:
                victim.communicate("\n", timeout=300)
            return super().one(job)

    launch = Waits()
    found = ran(tmp_path, launch, *WORDS)
    assert victim.returncode == -signal.SIGKILL
    assert [t["state"] for t in found] == ["complete", "complete", "fail", *["complete"] * 4]
    [again] = [t for t in found if t["values"] == found[2]["values"] and t["trial"] != 2]
    assert again["folder"] == "2"
    assert len(launch.seen) == 5  # the victim did one of the six


def test_whoever_asks_behind_the_last_trial_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, _ = begun(tmp_path, "sweep.trials=2")
    study = kept.open_study(what.sweep, open_storage(str(what.sweep.storage)))
    counted = kept.list_counted
    for _ in range(2):
        kept.ask(study, what.spaces, tmp_path)
    calls: list[int] = []

    def late(study: Any) -> list[Any]:
        calls.append(1)
        return counted(study) if len(calls) > 1 else []  # as it was before the others asked

    monkeypatch.setattr(kept, "list_counted", late)
    assert kept.claim_trials(study, what.sweep, what.spaces, 1, tmp_path) == []
    assert len(counted(study)) == 2
    assert study.get_trials()[2].user_attrs["why"] == "the study had its last trial already"


def test_a_trial_whose_own_process_lives_is_left_when_its_search_has_died(tmp_path: Path) -> None:
    what, _ = begun(tmp_path, "sweep.trials=2")
    study = kept.open_study(what.sweep, open_storage(str(what.sweep.storage)))
    code = "import sys, json; from pathlib import Path; from fulgurite.sweep.study import describe_process as d\n"
    code += "print(json.dumps(d(Path(sys.argv[1]))), flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    number, _ = kept.ask(study, what.spaces, tmp_path)
    asked = kept.get_trial(study, number)._trial_id
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        described = json.loads(runner.stdout.readline())
        gone = {"pid": os.getpid() + 1, "lock": str(tmp_path / ".process-gone.lock")}
        for name, value in (*gone.items(), ("runner", described)):
            study._storage.set_trial_user_attr(asked, name, value)
        assert kept.settle(study, what.sweep, tmp_path) == []
        runner.kill()
    assert len(kept.settle(study, what.sweep, tmp_path)) == 1
    assert not Path(described["lock"]).exists()


def test_a_trial_that_is_over_does_not_begin_in_another_process(tmp_path: Path) -> None:
    what, _ = begun(tmp_path, "sweep.trials=2")
    study = kept.open_study(what.sweep, open_storage(str(what.sweep.storage)))
    number, _ = kept.ask(study, what.spaces, tmp_path)
    what.sweep.trial = number
    kept.begin(what.sweep, tmp_path, resumed=False)
    assert kept.get_trial(study, number).user_attrs["runner"]["pid"] == os.getpid()
    kept.queue_again(study, what.sweep, number, tmp_path)
    with pytest.raises(ConfigError, match=f"Trial {number} of .* is over"):
        kept.begin(what.sweep, tmp_path, resumed=False)
    kept.begin(what.sweep, tmp_path, resumed=True)


def lost(what: Search, base: Composed, folder: Path, starts: bool) -> list[dict[str, Any]]:
    """A search whose launcher breaks once, before or after trial 1 has begun."""
    class Breaks(Formula):
        def one(self, job: list[str]) -> Outcome:
            if trained(job)["sweep.trial"] == "1":
                if starts:
                    (Path(trained(job)["run_dir"])).mkdir()
                    (Path(trained(job)["run_dir"]) / "status.json").write_text(json.dumps({}))
                return Outcome(1, "TerminatedWorkerError: killed", lost=True)
            return super().one(job)

    search(what, base, Breaks())
    return trials(folder)


def test_a_trial_that_a_launcher_loses_is_taken_up_again(tmp_path: Path) -> None:
    what, base = begun(tmp_path, "sweep.trials=3", "sweep.pruner=none")
    found = lost(what, base, tmp_path, starts=True)
    assert [t["state"] for t in found] == ["complete", "fail", "complete", "complete"]
    assert found[2]["values"] == found[1]["values"]


def test_a_launcher_that_starts_nothing_ends_the_search(tmp_path: Path) -> None:
    what, base = begun(tmp_path, "sweep.trials=3", "sweep.pruner=none")
    with pytest.raises(ConfigError, match="could not start a trial: TerminatedWorkerError: killed"):
        lost(what, base, tmp_path, starts=False)
