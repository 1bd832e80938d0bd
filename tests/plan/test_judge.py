"""The plan of a run has what the rules find in its facts."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from tests.plan.facts import build_facts

from fulgurite.plan.judge import judge_run
from fulgurite.plan.rules import find_troubles
from fulgurite.plan.timing import Timing
from fulgurite.precision.policy import Dtypes

DTYPES = Dtypes("fp32", "32-true", torch.float32, torch.float32, torch.float32, "it is asked for")


def test_report_has_the_findings_of_every_rule() -> None:
    for words, refused in (["optim.lr=5e-2"], True), (["optim.lr=5e-2", "plan.allow=[rate.out-of-band]"], False):
        facts = build_facts(*words)
        timing = Timing(1e-3, 0.5, 100)
        report = judge_run(DTYPES, SimpleNamespace(composed=None, seen=facts), timing)
        assert report.findings == find_troubles(facts)
        assert [t.rule for t in report.findings if t.severity == "error"] == ["rate.out-of-band"]
        assert report.refused is refused
        assert (report.seen, report.probe, report.provenance) == (facts, timing, facts.origins)
