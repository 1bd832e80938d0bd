"""Every parameter and every group has a title in both languages, and no title is left over."""

from __future__ import annotations

from fulgurite.explain.knob_index import list_every_knob
from fulgurite.explain.pages import list_all_groups
from fulgurite.explain.titles import GROUPS, TITLES, get_group_title, get_title
from fulgurite.language import use_language


def test_titles_are_those_of_the_declared_parameters() -> None:
    assert set(TITLES) == {knob.path for knob in list_every_knob()}
    assert set(GROUPS) == {*list_all_groups(), "run"}


def test_no_two_parameters_share_a_title() -> None:
    for language in ("en", "zh"):
        with use_language(language):
            titles = [get_title(path) for path in TITLES]
        assert sorted(titles) == sorted(set(titles))


def test_chinese_titles_are_the_labels_that_people_search() -> None:
    with use_language("zh"):
        paths = ("optim.lr", "data.max_length", "trainer.epochs", "trainer.max_grad_norm")
        assert [get_title(path) for path in paths] == ["学习率", "截断长度", "训练轮数", "最大梯度范数"]
        assert [get_group_title(group) for group in ("method", "scheduler", "precision")] == [
            "微调方法", "学习率调节器", "计算类型",
        ]


def test_an_unknown_name_is_its_own_title() -> None:
    assert get_title("plugin.knob") == "plugin.knob"
    assert get_group_title("plugin") == "plugin"
