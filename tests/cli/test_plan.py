"""`fulgurite plan` as a person and a program see it, and what `train` does about the same rules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.end_to_end.runs import tiny
from tests.plan.facts import build_facts

from fulgurite.cli.main import main
from fulgurite.config.compose import compose
from fulgurite.config.stored import rebuild_run
from fulgurite.errors import ConfigError, RequestError
from fulgurite.plan.diagnostic import Trouble
from fulgurite.plan.rules import RULES, find_troubles
from fulgurite.plan.verdict import list_warnings, refuse_unknown
from fulgurite.rules.registry import Severity
from fulgurite.run.folder import read_config

TINY = ["model=tiny", "precision=fp32", "logger=none"]
FEW = ["data.max_samples=60", "data.val_fraction=0.1", "trainer.global_batch_size=32", "trainer.epochs=1"]
"""Two steps that nobody asked for."""


def json_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    status = main(["plan", "--json", *TINY, *words])
    return status, json.loads(capsys.readouterr().out)


def test_json_has_values_steps_disk_and_troubles(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = json_of(capsys, "trainer.max_steps=300", "trainer.global_batch_size=8", "optim.lr=5e-4")
    assert status == 0
    assert {
        "knobs", "steps", "warmup_steps", "tokens", "parameters", "trainable", "memory", "disk", "troubles",
    } <= set(found)
    assert (found["steps"], found["warmup_steps"]) == (300, 30)
    assert found["knobs"]["optim.lr"] == {"value": 5e-4, "origin": "command line", "reason": ""}
    assert found["knobs"]["method.alpha"]["origin"] == "derived"
    assert found["knobs"]["method.alpha"]["reason"]
    assert all({"rule", "severity", "sentence", "remedy"} <= set(trouble) for trouble in found["troubles"])  # type: ignore[attr-defined]
    assert found["disk"]["total"] == found["disk"]["checkpoint"] * (found["disk"]["kept"] + 1)


def test_the_plan_is_what_training_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["method=lora", "data.max_samples=60", "data.val_fraction=0.1", "trainer.global_batch_size=4",
        "trainer.max_steps=3"]
    _, found = json_of(capsys, *words, "stage.prompts=[]")
    folder = tiny(tmp_path / "run", *words)
    did = json.loads((folder / "provenance.json").read_text())["knobs"]
    assert did["scheduler.warmup_steps"]["value"] == found["warmup_steps"]
    same = {name for name in did if not name.startswith(("trainer.", "plan.", "run_dir", "name", "logger"))}
    assert {name: did[name]["value"] for name in same} == {name: found["knobs"][name]["value"] for name in same}
    report = json.loads((folder / "data_report.json").read_text())
    assert (report["tokens"], report["label_tokens"]) == (found["tokens"], found["label_tokens"])
    size = sum(f.stat().st_size for f in (folder / "checkpoints" / "step-3").iterdir())
    assert found["disk"]["checkpoint"] == pytest.approx(size, rel=0.1)


def test_the_screen_is_no_wider_than_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *TINY, "trainer.max_steps=300", "scheduler=cosine"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    for word in (
        "PARAMETERS", "DATA", "MEMORY", "DERIVED", "TROUBLES", "warmup ends at step 30", "optim.lr", "99 % have at most"
    ):
        assert word in out


def test_a_private_plan_says_which_noise_its_epsilon_needs(capsys: pytest.CaptureFixture[str]) -> None:
    from fulgurite.privacy.accountant import compute_rate, solve_noise

    assert main(["plan", *TINY, "privacy=dp_sgd", "privacy.epsilon=8", "trainer.max_steps=300",
        "trainer.global_batch_size=32"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    _, found = json_of(capsys, "privacy=dp_sgd", "privacy.epsilon=8", "trainer.max_steps=300",
        "trainer.global_batch_size=32")
    noise = solve_noise(8.0, found["knobs"]["privacy.delta"]["value"], compute_rate(32, found["rows"]), 300)
    assert f"epsilon 8 needs noise multiplier {noise:.3g}" in out


def test_an_error_exits_2_and_one_that_is_allowed_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = json_of(capsys, *FEW)
    assert status == 2
    assert [t["rule"] for t in found["troubles"] if t["severity"] == "error"] == ["steps.too-few"]  # type: ignore[attr-defined]
    assert json_of(capsys, *FEW, "plan.allow=[steps.too-few]")[0] == 0


def test_training_refuses_what_the_plan_refuses_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *TINY, *FEW, "stage.prompts=[]", f"run_dir={tmp_path / 'run'}"]) == 2
    err = capsys.readouterr().err
    assert "error: [steps.too-few] The run has 2 optimizer steps" in err
    assert "plan.allow=[steps.too-few]" in err
    assert not (tmp_path / "run").exists()


def test_what_was_allowed_is_kept_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, *FEW, "stage.prompts=[]", "plan.allow=[steps.too-few]", f"run_dir={tmp_path}"]
    assert main(["train", *words]) == 0
    assert capsys.readouterr().err.count("steps.too-few") == 1
    kept = json.loads((tmp_path / "troubles.json").read_text())
    assert [(t["severity"], t["allowed"]) for t in kept if t["rule"] == "steps.too-few"] == [("error", True)]
    assert json.loads((tmp_path / "provenance.json").read_text())["knobs"]["plan.allow"]["value"] == ["steps.too-few"]
    assert rebuild_run(read_config(tmp_path)).plan.allow == ["steps.too-few"]


def test_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"plan.allow=step.too-few is no rule. Did you mean steps.too-few"):
        refuse_unknown(compose(["plan.allow=[step.too-few]"]).run.plan.allow, [])
    refuse_unknown(compose(["plan.allow=steps.too-few"]).run.plan.allow, [])


def test_warnings_are_listed_and_errors_are_raised() -> None:
    errors = [Trouble("a.b", Severity.error, "One.", "x=1"), Trouble("c.d", Severity.error, "Two.")]
    with pytest.raises(RequestError, match=r"^\[a.b\] One. Do: x=1\nerror: \[c.d\] Two.$"):
        list_warnings(errors)
    known = Trouble("v", Severity.warning, "Known.", allowed=True)
    mild = [Trouble("w", Severity.warning, "Warm."), known, Trouble("n", Severity.note, "So.")]
    allowed = Trouble("a.b", Severity.error, "One.", allowed=True)
    assert [str(line) for line in list_warnings([allowed, *mild])] == ["allowed: [a.b] One.", "warning: [w] Warm."]


def test_parameter_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(RULES, "steps.too-few", replace(RULES["steps.too-few"], about="trainer.keep_checkpoints"))
    assert [t.rule for t in find_troubles(build_facts("trainer.keep_checkpoints=9", steps=5))] == ["steps.too-few"]
    assert [t.rule for t in find_troubles(build_facts("trainer.keep_checkpoints=9", steps=500))] == ["value.unusual"]


SHOWN = [
    ["trainer.max_steps=300"], ["trainer.max_steps=300", "trainer.keep_checkpoints=9", "trainer.max_grad_norm=0.01",
        "optim.weight_decay=0.9"],
    ["method=full", "optim.lr=0.99", "trainer.max_steps=3"],
    ["optim.lr=1e-7", "scheduler.warmup_ratio=0.9", "trainer.early_stopping_patience=99"],
    [*FEW, "plan.allow=[steps.too-few]"], ["method.rank=64", "method.alpha=1", "method.dropout=0.9"],
    ["method=full", "optim.lr=0.99", "plan.allow=[rate.out-of-band,value.unusual]", "trainer.keep_checkpoints=9"],
    ["data.val_fraction=0.6", "trainer.epochs=40", "data.max_length=100"],
]


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_the_json_holds_every_finding_of_the_screen(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["plan", *TINY, *words])
    shown = " ".join(capsys.readouterr().out.partition("TROUBLES\n")[2].split())
    again, found = json_of(capsys, *words)
    assert status == again
    assert (status == 2) == any(t["refuses"] for t in found["troubles"])  # type: ignore[attr-defined]
    rest = shown
    for trouble in found["troubles"]:  # type: ignore[attr-defined]
        label = f"{trouble['severity']}{' (allowed)' * trouble['allowed']}"
        arrow = f" → {trouble['remedy']}" if trouble["remedy"] else ""
        assert trouble["overrides"] == trouble["remedy"].split()
        head, found_it, rest = rest.partition(
            f"{label} {' '.join(trouble['sentence'].split())} [{trouble['rule']}]{arrow}"
        )
        assert found_it, f"the screen lacks {trouble} in {shown}"
        assert not head.strip(), f"the JSON lacks {head}"
    assert rest.strip() in ("", "none: no rule has a finding")


def test_the_rules_are_listed_without_torch() -> None:
    code = (
        "import sys; from fulgurite.cli.main import main; status = main(['plan', '--rules']);"
        "print('HEAVY', {'torch', 'transformers', 'lightning', 'numpy', 'hydra'} & set(sys.modules) or 'none', status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY none 0"
    assert all(name in done.stdout for name in RULES)


WRONG = [(["-m", "seed=1,2"], "one run"), (["--jsn"], "Did you mean --json"), (["no.knob=1"], "no.knob")]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_wrong_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_the_probe_times_the_real_model(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = json_of(capsys, "--probe", "trainer.max_steps=300", "trainer.global_batch_size=8")
    assert found["seconds"]["training"] > 0
    assert found["seconds"]["evaluation"] > 0


def test_a_probe_of_steps_that_are_not_alike_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--probe", *TINY, "privacy=dp_sgd", "trainer.max_steps=300",
        "trainer.global_batch_size=32"]) == 2
    assert "--probe cannot time privacy" in capsys.readouterr().err


def test_what_is_read_otherwise_or_not_at_all_stands_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {
        "messages": [{"role": "user", "content": "a", "images": ["x"]}, {"role": "assistant", "content": 7}],
        "source": "here",
    }
    (tmp_path / "a.jsonl").write_text((json.dumps(record) + "\n") * 60, encoding="utf-8")
    main(["plan", *TINY, "data=file", f"data.path={tmp_path / 'a.jsonl'}"])
    words = " ".join(capsys.readouterr().out.split())
    assert "60 with a number or a boolean read as text; fields that are not used:" in words
    assert "source (60)" in words
    assert "messages[].images (60)" in words


def test_a_refused_request_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = json_of(capsys, "optim=nope")
    assert status == found["status"] == 2
    assert str(found["error"]).startswith("There is no optim=nope.")
