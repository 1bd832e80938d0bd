"""A frozen config, its copies and its pickles refuse every change; a thawed copy takes them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from fulgurite.config.compose import compose
from fulgurite.config.decision import Decision, Kind
from fulgurite.config.frozen import FrozenConfigError, FrozenList, freeze, is_frozen, thaw
from fulgurite.config.run import Resume


@pytest.mark.parametrize("change", [
    lambda run: setattr(run.optim, "lr", 1.0),
    lambda run: setattr(run, "seed", 1),
    lambda run: setattr(run.resume, "run", "x"),
    lambda run: run.plugins.append("x"),
    lambda run: run.resume.allow.extend(["x"]),
    lambda run: run.logger.update(csv=None),
    lambda run: run.logger.pop("csv", None),
    lambda run: delattr(run.optim, "lr"),
])
def test_a_resolved_config_cannot_be_changed(change: Any) -> None:
    composed = compose(["model=tiny"])
    before = composed.dump_config()
    for run in (composed.run, copy.deepcopy(composed.run), pickle.loads(pickle.dumps(composed.run))):
        with pytest.raises(FrozenConfigError):
            change(run)
    with pytest.raises((FrozenConfigError, TypeError)):
        composed.provenance["seed"] = Decision("seed", 1, Kind.default)  # type: ignore[index]
    assert composed.dump_config() == before


def test_freezing_replaces_lists_and_mappings_and_thawing_copies_them() -> None:
    part = Resume(allow=["a"])
    found = freeze({"parts": [part], "values": [1, {"x": [2]}]})
    assert is_frozen(part)
    assert isinstance(part.allow, FrozenList)
    assert found == {"parts": [part], "values": [1, {"x": [2]}]}  # equal to plain ones
    for change in (lambda: found.update(a=1), lambda: found["values"].append(1), lambda: found["values"][1].pop("x")):
        with pytest.raises(FrozenConfigError):
            change()
    free = thaw(found)
    free["parts"][0].allow.append("b")
    free["values"][1]["x"].append(3)
    assert (part.allow, found["values"][1]["x"]) == (["a"], [2])
    assert not is_frozen(free["parts"][0])


def test_the_refusal_names_the_part_and_the_remedy() -> None:
    part = freeze(Resume())
    with pytest.raises(
        FrozenConfigError, match=r"this Resume belongs to a resolved config.*fulgurite\.config\.resolve"
    ):
        part.run = "x"
    assert copy.deepcopy(part) == part
    assert is_frozen(copy.deepcopy(part))
