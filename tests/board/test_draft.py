"""From a draft to words: verbatim text, refused names, nothing that lets code run, nothing outside the folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fulgurite.board.draft import Draft, build_command, build_words, find_knob, read_draft
from fulgurite.board.typed_values import DraftError
from fulgurite.config.compose import compose
from fulgurite.config.override_checks import prepare
from fulgurite.config.run import list_all_knobs
from fulgurite.errors import ConfigError

SHELL = [
    "; rm -rf /", "$(touch /tmp/x)", "`id`", "| cat /etc/passwd", "&& reboot", "> /etc/passwd", "a b", "'", '"',
    "\\", "\\'",
    "a\nb", "\t", "${oc.env:HOME}", "${seed}", "$HOME", "%s{}", "a,b", "[a,b]", "{a: b}", "a=b", "--multirun", "-m",
    "choice(a,b)", "range(1,3)", "glob(*)", "~optim.lr", "+find=lr", "../../etc/passwd", "x # y", "null", "true", "1e3",
    "💥 数据",
    "\u2028", "'; import os; '", "!!python/object:os.system", "x\\${y}", "\\\\${oc.env:HOME}", "' ${seed} '",
    "hydra.run.dir=/",
]
FIELDS = sorted({knob.path for knob in list_all_knobs()})


OWNERS: dict[str, dict[str, Any]] = {
    knob.path: {knob.group: knob.option} for knob in list_all_knobs() if knob.option and "." not in knob.group
}
"""For each parameter the choice of an option that has it."""


def allow_all(path: Path) -> bool:
    return True


def build(values: dict[str, str], choices: dict[str, Any] | None = None, **options: Any) -> list[str]:
    return build_words(Draft(choices or {}, values), **({"is_allowed": allow_all} | options))


@pytest.mark.parametrize("payload", SHELL)
def test_payload_is_one_argument_or_a_refusal(payload: str) -> None:
    """T36: whatever is in a field, it is one value of this parameter alone, or it is refused."""
    refused: dict[str, str] = {}
    # each payload in a third of the fields, each field with a third of the payloads
    for field in FIELDS[SHELL.index(payload) % 3 :: 3]:
        try:
            words = build({field: payload}, OWNERS.get(field, {}))
            prepared = prepare(words[len(OWNERS.get(field, {})) :])
        except DraftError as error:
            refused[field] = error.about
            continue
        except ConfigError as error:  # a package of that name is not installed
            refused[field] = str(error).partition("=")[0]
            continue
        for word in prepared:
            override = OverridesParser.create().parse_override(word)
            assert override.key_or_group == field
            assert not override.is_sweep_override()
            assert not override.is_delete()
            assert "${" not in word.replace("\\${", "")
    assert all(field == about for field, about in refused.items())


@pytest.mark.parametrize("payload", SHELL)
def test_payload_is_no_choice(payload: str) -> None:
    if not payload.strip():
        return  # an empty line of a list
    for choices in ({"stage": payload}, {payload: "sft"}, {"callback": ["progress", payload or "x"]}):
        with pytest.raises(DraftError):
            build({}, choices)
    with pytest.raises(DraftError):
        build_words(Draft(adds={"experiment": payload}), is_allowed=allow_all)
    with pytest.raises(DraftError):
        build({payload: "1"})


TEXTS = [*SHELL, "x" * 5000, " lead", "trail ", "a'b\"c", "\\'", "'''", "{", "]", ":", "@", "？。，", ""]


def test_text_reaches_the_run_verbatim() -> None:
    columns = "{" + ", ".join(f"{_quote(text)}: {_quote(text)}" for text in TEXTS if text) + "}"
    prompts = f"[{', '.join(map(_quote, TEXTS))}]"
    words = build({"stage.prompts": prompts, "data.columns": columns}, {"data": "file"})
    assert compose(["logger=none", *words]).run.stage.prompts == TEXTS
    assert compose(["logger=none", *words]).run.data.columns == {text: text for text in TEXTS if text}
    for text in ("${seed}", "a, b 'c'\n\\", "null"):
        assert compose(build({"model.path": text}, {"model": "hf"})).run.model.path == text


def _quote(text: str) -> str:
    from fulgurite.board.typed_values import format_typed

    return format_typed([text])[1:-1]


@pytest.mark.parametrize(("values", "choices", "name"), [
    ({"plugins": "[os]"}, {}, "plugins"), ({"plugins": "os"}, {}, "plugins"),
    ({"model.trust_remote_code": "true"}, {"model": "hf"}, "model.trust_remote_code"),
    ({"model.revision": "main"}, {"model": "hf"}, "model.revision"),
    ({"stage.reward": "[/tmp/a.py:f]"}, {"stage": "grpo"}, "stage.reward"),
    ({"stage.reward": "a.PY:f"}, {"stage": "grpo"}, "stage.reward"),
    ({"sweep.storage": "postgresql://h/db"}, {}, "sweep.storage"),
    ({"sweep.storage": "mysql+pymysql://h/db"}, {}, "sweep.storage"),
])
def test_words_that_let_code_run_are_refused_unless_allowed(
    values: dict[str, str], choices: dict[str, Any], name: str
) -> None:
    with pytest.raises(DraftError, match="--allow-code") as caught:
        build(values, choices)
    assert caught.value.about == name
    assert build(values, choices, allow_code=True)[-1].startswith(f"{name}=")


def test_harmless_values_of_the_same_parameters_are_words() -> None:
    words = build({"model.trust_remote_code": "false", "model.revision": "", "plugins": "[]"}, {"model": "hf"})
    assert words[1:] == ["model.trust_remote_code=false", "model.revision=null", "plugins=[]"]
    assert build({"stage.reward": "[length:50]"}, {"stage": "grpo"})[-1] == "stage.reward=['length:50']"


def test_preset_that_lets_code_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from fulgurite.board import draft as module
    from fulgurite.explain.choices import Preset

    preset = Preset("method", "dora", "", "lora", {})
    monkeypatch.setattr(module, "list_presets", lambda group: (
        [Preset("experiment", "sft_guide", "", "", {"plugins": ["os"]})] if group == "experiment" else [preset]
    ))
    with pytest.raises(DraftError, match="plugins can let code run"):
        build_words(Draft(adds={"experiment": "sft_guide"}))
    assert build({}, {"method": "dora"}) == ["method=dora"]


PLACES: list[tuple[str, dict[str, Any]]] = [
    ("run_dir", {}), ("resume.run", {}), ("data.path", {"data": "file"}), ("data.val_path", {"data": "file"}),
    ("model.path", {"model": "hf"}), ("method.adapter_path", {"method": "lora"}), ("stage.reference", {"stage": "dpo"}),
    ("stage.reward", {"stage": "grpo"}), ("sweep.storage", {}),
]


@pytest.mark.parametrize(("name", "choices"), PLACES)
def test_paths_are_under_the_folders_of_the_board(name: str, choices: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    check = build_check(root)
    head = "sqlite:///" if name == "sweep.storage" else ""
    for path in (root / "a", root, root / "b" / "c"):
        assert build({name: f"{head}{path}"}, choices, is_allowed=check)
    for path in (tmp_path / "outside", root / ".." / "outside", root / "link" / "x", Path("/etc"), Path("~")):
        with pytest.raises(DraftError, match="outside the folders") as caught:
            build({name: f"{head}{path}"}, choices, is_allowed=check)
        assert caught.value.about == name
    with pytest.raises(DraftError):
        build({name: f"{head}{root}"}, choices, is_allowed=None)


def build_check(root: Path) -> Callable[[Path], bool]:
    return lambda path: root.resolve() in (path.absolute().resolve(), *path.absolute().resolve().parents)


def test_pattern_matches_nothing_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a.jsonl").write_text("{}\n")
    check = build_check(root)
    assert build({"data.path": f"{root}/data/*.jsonl"}, {"data": "file"}, is_allowed=check)
    (tmp_path / "secret.jsonl").write_text("{}\n")
    (root / "data" / "b.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for word in (f"{root}/data/*.jsonl", f"{root}/data", "/**/*.jsonl", f"{root}/*/../../*.jsonl",
                 f"[{root}/x, {tmp_path}/*]"):
        with pytest.raises(DraftError, match="outside the folders"):
            build({"data.path": word}, {"data": "file"}, is_allowed=check)


def test_names_of_the_hub_are_no_paths() -> None:
    values = {"model.path": "HuggingFaceTB/SmolLM2-360M-Instruct"}
    assert build(values, {"model": "hf"}, is_allowed=None)[-1] == "model.path=HuggingFaceTB/SmolLM2-360M-Instruct"
    assert build({"data.path": "hub:tatsu-lab/alpaca"}, {"data": "file"}, is_allowed=None)


def test_secret_in_a_value_is_refused() -> None:
    with pytest.raises(DraftError, match="secret"):
        build({"name": "hf_abcdefghijklmnopqrstuvwxyz"})


def test_unknown_name_has_the_nearest_one() -> None:
    with pytest.raises(DraftError, match=r"optim\.lr") as caught:
        build({"optim.lrr": "1"})
    assert caught.value.about == "optim.lrr"
    with pytest.raises(DraftError):
        build({"data.columns.x": "1"})
    with pytest.raises(DraftError, match="loraa"):
        build({}, {"method": "loraa"})


def test_words_are_in_the_order_of_presets_options_and_values() -> None:
    draft = Draft({"stage": "dpo", "callback": ["samples", "monitor"]}, {"optim.lr": "1e-4"}, {"sweep": "dpo_lora"})
    words = build_words(draft)
    assert words == ["+sweep=dpo_lora", "stage=dpo", "callback=[samples,monitor]", "optim.lr=1e-4"]
    assert build_command(draft, words) == (
        "fulgurite train -m +sweep=dpo_lora stage=dpo 'callback=[samples,monitor]' optim.lr=1e-4"
    )
    assert build({"trainer.max_grad_norm": ""}) == []


def test_declaration_is_that_of_the_chosen_option() -> None:
    assert find_knob("stage.loss", {"stage": "dpo"}).option == "dpo"
    assert find_knob("stage.loss", {"stage": "sft"}).option == "sft"
    assert find_knob("method.rank", {"method": "dora"}).option == "lora"
    assert {find_knob(knob.path, {}).path for knob in list_all_knobs()} == {knob.path for knob in list_all_knobs()}


@pytest.mark.parametrize("body", [None, [], "x", {"choices": []}, {"values": {"a": {}}}, {"values": {"a": [1]}},
                                  {"adds": {"a": ["b"]}}, {"values": {str(n): "1" for n in range(401)}}])
def test_body_that_is_no_draft_is_refused(body: Any) -> None:
    with pytest.raises(ConfigError):
        read_draft(body)


def test_emptied_field_is_no_value() -> None:
    values = {"seed": 7, "optim.lr": None, "x": True}
    draft = read_draft({"choices": {"stage": "sft", "callback": ["a"]}, "values": values})
    assert draft.to_json() == {
        "choices": {"stage": "sft", "callback": ["a"]}, "values": {"seed": "7", "x": "true"}, "adds": {},
    }
