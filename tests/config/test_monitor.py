"""monitor.ignore: rules by id, one or several, none by default."""

from __future__ import annotations

import pytest

from fulgurite.config.compose import compose


@pytest.mark.parametrize(("words", "ignored"), [
    ([], []), (["monitor.ignore=clip-share"], ["clip-share"]),
    (["monitor.ignore=[clip-share,a-b]"], ["clip-share", "a-b"]),
])
def test_ids_of_rules_are_read_as_a_list(words: list[str], ignored: list[str]) -> None:
    composed = compose(words)
    assert composed.run.monitor.ignore == ignored
    assert composed.dump_config()["monitor"] == {"ignore": ignored}
