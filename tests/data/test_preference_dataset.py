"""Pairs and judged answers: every form that people have, what is wrong in one line, and both sides cut alike or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fulgurite.data import preference_dataset as compared_rows
from fulgurite.data.config import File, Format, Guide, GuidePreference, Packing
from fulgurite.data.dataset import split_dataset
from fulgurite.data.example import Bad, Conversation, Message
from fulgurite.data.loader import Ahead, build_train_loader, build_val_loader, collate_longest
from fulgurite.data.preference_dataset import PreferenceDataset, collate_mismatched, collate_preferences
from fulgurite.data.sample_prompts import choose_sample_prompts
from fulgurite.data.sampler import StepSampler, pair_mismatched
from fulgurite.data.source import build_source
from fulgurite.data.template import load_template
from fulgurite.data.tokenized import tokenize_source
from fulgurite.errors import DataError

Write = Callable[[str, Any], Path]
Q, A, B = ({"role": r, "content": c} for r, c in (("user", "question"), ("assistant", "good"), ("assistant", "bad")))
S = {"role": "system", "content": "be brief"}
PAIR = {"prompt": "question", "chosen": "good", "rejected": "bad"}
TURNS = (Message("user", "question"), Message("assistant", "good"))
HEADED = (Message("system", "be brief"), *TURNS)
LONG = (Message("user", "a"), Message("assistant", "b"), *TURNS)

PAIRS: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "text": (PAIR, TURNS),
    "messages": ({"prompt": [S, Q], "chosen": [A], "rejected": [B]}, HEADED),
    "one message a side": ({"prompt": [Q], "chosen": A, "rejected": B}, TURNS),
    "the prompt inside both": ({"chosen": [S, Q, A], "rejected": [S, Q, B]}, HEADED),
    "the prompt given and inside both": ({"prompt": "question", "chosen": [Q, A], "rejected": [Q, B]}, TURNS),
    "LLaMA-Factory's ranking": (
        {"conversations": [{"from": "human", "value": "question"}], "chosen": {"from": "gpt", "value": "good"},
         "rejected": {"from": "gpt", "value": "bad"}}, TURNS,
    ),
    "alpaca's fields": ({"instruction": "question", "input": "", "chosen": "good", "rejected": "bad"}, TURNS),
    "a system text beside": ({**PAIR, "system": "be brief"}, HEADED),
    "several turns": (
        {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, Q], "chosen": "good", "rejected": "bad"}, LONG,
    ),
}
JUDGED: dict[str, tuple[dict[str, Any], bool]] = {
    "prompt and completion": ({"prompt": "question", "completion": "good", "label": True}, True),
    "messages": ({"messages": [Q, A], "label": False}, False),
    "completion as messages": ({"prompt": [Q], "completion": [A], "label": True}, True),
    "alpaca": ({"instruction": "question", "output": "good", "label": False}, False),
    "sharegpt": ({"conversations": [{"from": "human", "value": "question"}, {"from": "gpt", "value": "good"}], "label": True}, True),
}


def examples(write: Write, record: dict[str, Any], stage: str) -> Any:
    source = build_source(File(path=[str(write("a.jsonl", [record]))]), stage=stage, seed=1)
    assert source.check().unread == {}
    return source.format, next(iter(source.examples()))


@pytest.mark.parametrize("form", PAIRS)
def test_every_form_of_a_pair(form: str, write: Write) -> None:
    record, expected = PAIRS[form]
    format, example = examples(write, record, "dpo")
    assert format == "preference"
    assert example.messages == Conversation(expected)
    assert example.rejected == Conversation((*expected[:-1], Message("assistant", "bad")))


@pytest.mark.parametrize("form", JUDGED)
def test_every_form_of_a_judged_answer(form: str, write: Write) -> None:
    record, good = JUDGED[form]
    format, example = examples(write, record, "kto")
    assert (format, example.messages, example.good, example.rejected) == ("kto", Conversation(TURNS), good, None)


def test_a_margin_is_read_for_a_reward_model_and_said_to_be_unread_elsewhere(write: Write) -> None:
    path = str(write("a.jsonl", [{**PAIR, "margin": 2}]))
    for stage, unread in (("rm", {}), ("dpo", {"margin": 1})):
        source = build_source(File(path=[path]), stage=stage, seed=1)
        assert source.check().unread == unread
        assert next(iter(source.examples())).margin == 2.0  # type: ignore[union-attr]


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no rejected": ("dpo", {**PAIR, "rejected": None}, "field 'rejected': text is due and this is null"),
    "chosen empty": ("dpo", {**PAIR, "chosen": " \n"}, "field 'chosen': is empty"),
    "rejected no messages": ("dpo", {**PAIR, "rejected": []}, "field 'rejected': is empty"),
    "equal sides": ("dpo", {**PAIR, "rejected": "good "}, "field 'rejected': is the same text as chosen"),
    "differing prompts": ("dpo", {"chosen": [Q, A], "rejected": [{**Q, "content": "other"}, B]}, "'rejected': its prompt differs"),
    "one side with its prompt": ("dpo", {"prompt": [Q], "chosen": [Q, A], "rejected": [B]}, "'rejected': its prompt differs from that"),
    "another prompt beside": ("dpo", {"prompt": "x", "chosen": [Q, A], "rejected": [Q, B]}, "field 'prompt': is not the prompt with which"),
    "no prompt": ("dpo", {"chosen": "good", "rejected": "bad"}, "field 'prompt': is missing, and chosen and rejected are no"),
    "prompt of bytes": ("dpo", {**PAIR, "prompt": {"text": 7}}, "field 'prompt[0].role': None is no known role"),
    "prompt of no messages": ("dpo", {**PAIR, "prompt": []}, "field 'prompt': is empty"),
    "prompt that ends with an answer": ("dpo", {**PAIR, "prompt": [Q, A]}, "field 'chosen': the prompt ends with an answer"),
    "a side that ends with a question": ("dpo", {**PAIR, "chosen": [Q]}, "field 'chosen[0]': the last turn is the user's"),
    "unknown role": ("dpo", {**PAIR, "chosen": [{"role": "x", "content": "y"}]}, "field 'chosen[0].role': 'x' is no known role"),
    "ranking without a conversation": ("dpo", {"conversations": [], "chosen": A, "rejected": B}, "field 'conversations': is empty"),
    "a margin of text": ("rm", {**PAIR, "margin": "much"}, "field 'margin': a number is due and this is text ('much')"),
    "a negative margin": ("rm", {**PAIR, "margin": -1}, "field 'margin': -1 is not allowed"),
    "label text": ("kto", {"messages": [Q, A], "label": "good"}, "field 'label': true or false is due and this is text ('good')"),
    "label a number": ("kto", {"messages": [Q, A], "label": 2}, "field 'label': true or false is due and this is a number (2)"),
    "an answer flagged as not learned": ("kto", {"messages": [Q, {**A, "weight": 0}], "label": 1}, "field 'messages': is flagged as"),
    "label null": ("kto", {"messages": [Q, A], "label": None}, "field 'label': true or false is due and this is null"),
    "empty completion": ("kto", {"prompt": "question", "completion": "", "label": True}, "field 'completion': is empty"),
    "no prompt to judge by": ("kto", {"completion": "good", "label": True}, "field 'prompt': is missing"),
    "judged question": ("kto", {"messages": [Q], "label": True}, "field 'messages[0]': the last turn is the user's"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_one_line_with_place_field_and_reason(name: str, write: Write) -> None:
    stage, record, said = BAD[name]
    good = PAIR if stage != "kto" else {"messages": [Q, A], "label": True}
    path = write("bad.jsonl", [good, record])
    with pytest.raises(DataError) as caught:
        build_source(File(path=[str(path)]), stage=stage, seed=1).check()
    assert str(caught.value).startswith(f"{path}:2: {said}" if said.startswith("field") else f"{path}:2: field {said}")
    assert "\n" not in str(caught.value)


def test_there_are_more_than_twenty() -> None:
    assert len(BAD) > 20


FITS = {
    "pairs in sft": ("sft", PAIR, ":1: field 'rejected': a pair of answers to compare stands where one answer to learn is due; take"),
    "talks in dpo": ("dpo", {"messages": [Q, A]}, " holds conversations (openai) and stage=dpo learns from pairs of answers; take"),
    "judged under another name": (
        "kto", {"messages": [Q, A], "kto_tag": True}, " holds conversations (openai) and stage=kto learns from answers with a label; "
        "if they are there under another name, name them with data.columns={label: kto_tag}; else take stage=sft.",
    ),
    "judged in rm": ("rm", {"messages": [Q, A], "label": True}, " holds answers with a label (kto) and stage=rm learns from pairs of"),
    "talks in kto": ("kto", {"messages": [Q, A]}, " holds conversations (openai) and stage=kto learns from answers with a label; take"),
    "text in dpo": ("dpo", {"text": "a"}, " holds running text and stage=dpo learns from pairs of answers; take stage=pt."),
}


HH = "\n\nHuman: {}\n\nAssistant: {}"
HH_FORMS: dict[str, dict[str, Any]] = {
    "the prompt inside both": {"chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad")},
    "the prompt given as well": {
        "prompt": HH.format("question", ""), "chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad"),
    },
    "only the prompt in this form": {"prompt": HH.format("question", ""), "chosen": " good", "rejected": " bad"},
    "null beside": {"prompt": None, "chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad")},
}


@pytest.mark.parametrize("form", HH_FORMS)
def test_hh_pairs_share_their_beginning_as_the_prompt(form: str, write: Write) -> None:
    _, example = examples(write, HH_FORMS[form], "dpo")
    assert [(m.role, m.content.strip()) for m in example.messages] == [("user", "question"), ("assistant", "good")]
    assert [(m.role, m.content.strip()) for m in example.rejected] == [("user", "question"), ("assistant", "bad")]


def test_an_answer_that_is_itself_a_dialogue_stays_one_answer(write: Write) -> None:
    answers = {"chosen": HH.format("question", "good"), "rejected": HH.format("question", "bad")}
    _, example = examples(write, {"prompt": "write a dialogue", **answers}, "dpo")
    assert [m.content for m in example.messages] == ["write a dialogue", answers["chosen"]]


def test_hh_pairs_of_several_turns(write: Write) -> None:
    before = HH.format("a", "b") + "\n\nHuman: question\nHuman: is no mark here"
    pair = {side: f"{before}\n\nAssistant: {answer}" for side, answer in (("chosen", "good"), ("rejected", "bad"))}
    _, example = examples(write, pair, "rm")
    assert [m.content for m in example.messages] == ["a", "b", "question\nHuman: is no mark here", "good"]
    other = {**pair, "rejected": HH.format("a", "c") + "\n\nHuman: question\n\nAssistant: bad"}
    with pytest.raises(DataError, match="'rejected': its prompt differs from that of chosen"):
        build_source(File(path=[str(write("b.jsonl", [other]))]), stage="rm", seed=1).check()


CELLS = {
    "True": True, "False": False, "true": True, "0": False, "1": True, "yes": True, "No": False, " 1 ": True, "1.0": True,
}


def test_labels_and_margins_of_a_csv_file(write: Write) -> None:
    path = write("a.csv", "prompt,completion,label\n" + "".join(f"question,good,{cell}\n" for cell in CELLS))
    source = build_source(File(path=[str(path)]), stage="kto", seed=1)
    assert source.check().unread == {}
    assert [example.good for example in source.examples()] == list(CELLS.values())  # type: ignore[union-attr]
    path = write("b.csv", "prompt,chosen,rejected,margin\nquestion,good,bad,1.5\nquestion,good,bad,\n")
    pairs = build_source(File(path=[str(path)]), stage="rm", seed=1)
    assert pairs.check().good == 2
    assert [example.margin for example in pairs.examples()] == [1.5, 0.0]  # type: ignore[union-attr]


def test_labels_of_numbers(write: Write) -> None:
    path = write("a.jsonl", [{"prompt": "question", "completion": "good", "label": label} for label in (1, 0, True, 0.0)])
    source = build_source(File(path=[str(path)]), stage="kto", seed=1)
    assert [example.good for example in source.examples()] == [True, False, True, False]  # type: ignore[union-attr]


def test_calls_are_compared_and_keep_their_structure(write: Write) -> None:
    sides = {
        side: [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": name, "arguments": "{}"}}]}]
        for side, name in (("chosen", "f"), ("rejected", "g"))
    }
    _, example = examples(write, {"prompt": [Q], **sides, "tools": [{"name": "f"}, {"name": "g"}]}, "dpo")
    names = [messages[-1].tool_calls[0]["function"]["name"] for messages in (example.messages, example.rejected)]
    assert names == ["f", "g"]
    assert len(example.messages.tools) == len(example.rejected.tools) == 2
    same = {"prompt": [Q], "chosen": sides["chosen"], "rejected": sides["chosen"]}
    with pytest.raises(DataError, match="'rejected': is the same text as chosen"):
        build_source(File(path=[str(write("b.jsonl", [same]))]), stage="dpo", seed=1).check()


@pytest.mark.parametrize("what", FITS)
def test_the_stage_and_the_data_must_fit(what: str, write: Write) -> None:
    stage, record, said = FITS[what]
    path = write("a.jsonl", [record])
    with pytest.raises(DataError) as caught:
        build_source(File(path=[str(path)]), stage=stage, seed=1)
    assert str(caught.value).startswith(f"{path}{said}")


def test_columns_and_a_format_that_is_named(write: Write) -> None:
    path = str(write("a.jsonl", [{"q": "question", "yes": "good", "no": "bad", "kto_tag": True}]))
    columns = {"prompt": "q", "chosen": "yes", "rejected": "no"}
    source = build_source(File(path=[path], columns=columns), stage="dpo", seed=1)
    assert next(iter(source.examples())).messages == Conversation(TURNS)  # type: ignore[union-attr]
    columns = {"prompt": "q", "completion": "yes", "label": "kto_tag"}
    judged = build_source(File(path=[path], format=Format.kto, columns=columns), stage="kto", seed=1)
    assert next(iter(judged.examples())).good is True  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"data\.columns=\{prompt: q, chosen: yes, rejected: no\}"):
        build_source(File(path=[path]), stage="dpo", seed=1)


@pytest.mark.parametrize(("file", "stage"), [("dpo_en_demo.json", "dpo"), ("dpo_en_demo.json", "rm"), ("kto_en_demo.json", "kto")])
def test_real_files(file: str, stage: str, real_data: Callable[[str], Path]) -> None:
    source = build_source(File(path=[str(real_data(file))]), stage=stage, seed=1)
    assert source.check().good >= 299
    assert not [e for e in source.examples() if isinstance(e, Bad)]


# --- tokens, cuts, batches


@pytest.fixture
def made(write: Write, tokenizer: Any, tmp_path: Path) -> Callable[..., Any]:
    """`made(records, stage, max_length, **config)`: rows, validation rows, the report, the template and the source."""

    def make(records: list[dict[str, Any]], stage: str = "dpo", max_length: int = 200, **more: Any) -> Any:
        config = File(path=[str(write("a.jsonl", records))], **{"val_fraction": 0.0, **more})
        source, template = build_source(config, stage=stage, seed=1), load_template(None, tokenizer)
        encoded = tokenize_source(source, tokenizer, template, config, tmp_path / "cache")
        rows, val, report = split_dataset(encoded, config, 1, max_length, Packing.none)
        assert report.balanced
        return rows, val, report, template, source

    return make


def records(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"question {n}", "chosen": "good " * (n % 5 + 1), "rejected": "bad " * (n % 3 + 1)} for n in range(count)]


def test_each_side_is_the_prompt_and_the_answer_as_at_inference(made: Any) -> None:
    rows, _, _, template, source = made([*records(7), {**PAIR, "system": "be brief"}])
    for i, example in enumerate(source.examples()):
        for (ids, start), messages in zip(rows.sides(i), (example.messages, example.rejected), strict=True):
            whole, learn = template.encode_chat(messages, "last")
            assert ids.tolist() == whole[: len(whole) - learn[::-1].index(True)]
            assert ids[:start].tolist() == template.encode_prompt(messages[:-1])
            assert ids[-1] in template.stop_ids
    assert isinstance(rows, PreferenceDataset)


def test_a_batch_has_the_chosen_sides_first_and_only_answers_as_targets(made: Any) -> None:
    rows, *_ = made([{**r, "margin": n} for n, r in enumerate(records(6))], "rm")
    batch = collate_preferences(rows, [4, 1])
    assert batch["input_ids"].shape[0] == 4
    assert batch["margins"].tolist() == [4.0, 1.0]
    for i, (row, side) in enumerate([(4, 0), (1, 0), (4, 1), (1, 1)]):
        ids, start = rows.sides(row)[side]
        assert batch["input_ids"][i, : len(ids)].tolist() == ids.tolist()
        assert batch["lengths"][i] == len(ids)
        targets = batch["targets"][i].tolist()
        assert targets[start - 1 : len(ids) - 1] == ids[start:].tolist()
        assert set(targets[: start - 1] + targets[len(ids) - 1 :]) == {-100}


def test_what_both_sides_share_ends_before_the_first_token_that_predicts_an_answer(made: Any) -> None:
    rows, *_ = made(records(6))
    batch = collate_preferences(rows, [4, 1, 2])
    shared = batch["shared"]
    assert shared == min(start for n in (4, 1, 2) for _, start in rows.sides(n)) - 1 > 0
    assert torch.equal(batch["input_ids"][:3, :shared], batch["input_ids"][3:, :shared])
    assert bool((batch["targets"][:, :shared] == -100).all())
    assert bool((batch["targets"][:, shared] != -100).any())
    assert collate_preferences(rows, [])["shared"] == 0
    assert collate_longest(rows, 2, Ahead.nothing, 0)["shared"] == 0  # the most that a micro-batch may hold spares nothing


def test_sides_that_differ_share_nothing() -> None:
    ids = np.arange(9)
    sides = [[(ids, 5), (ids, 6)], [(ids, 5), (np.array([0, 1, 7, 3, 4, 5, 6]), 5)]]
    assert compared_rows._count_shared(sides[:1]) == 4
    assert compared_rows._count_shared(sides) == 0


def test_a_pair_that_is_too_long_is_dropped_whole_and_counted(made: Any) -> None:
    long = {"prompt": "question", "chosen": "good", "rejected": "bad " * 90}
    rows, _, report, *_ = made([*records(5), long], max_length=60)
    assert len(rows) == 5
    assert report.dropped["longer than data.max_length"].count == 1
    assert report.dropped["longer than data.max_length"].places[0].endswith("a.jsonl:6")


def test_truncation_cuts_the_same_tokens_of_the_prompt_from_both_sides(made: Any) -> None:
    talk = {"prompt": "word " * 60, "chosen": "good answer", "rejected": "bad " * 8}
    whole, *_ = made([talk], max_length=1000)
    most = int(whole.lengths[0]) - 20
    cut, _, report, *_ = made([talk], max_length=most, too_long="truncate")
    for (before, start), (after, begin) in zip(whole.sides(0), cut.sides(0), strict=True):
        assert after.tolist() == before[20:].tolist()
        assert begin == start - 20
    assert (report.truncated, report.trained) == (1, 1)
    hopeless = {"prompt": "word", "chosen": "good", "rejected": "bad " * 200}
    rows, _, report, *_ = made([talk, hopeless], max_length=most, too_long="truncate")
    assert len(rows) == 1
    assert report.dropped["an answer alone is longer than data.max_length"].count == 1
    with pytest.raises(DataError, match=r"a\.jsonl:1: the example has \d+ tokens, more than data.max_length="):
        made([talk], max_length=most, too_long="error")


def test_validation_pairs_are_never_trained_on(made: Any) -> None:
    rows, val, report, *_ = made(records(60), val_fraction=0.2)
    assert (len(rows), len(val), report.trained, report.validation) == (40, 20, 40, 20)
    assert not set(rows.numbers) & set(val.numbers)
    assert rows.units.tolist() == [1] * 40


def judged_rows(made: Any, count: int) -> Any:
    return made([{"prompt": r["prompt"], "completion": r["chosen"], "label": n % 3 == 0} for n, r in enumerate(records(count))], "kto")


def test_judged_answers_carry_their_label(made: Any) -> None:
    rows, *_ = judged_rows(made, 7)
    batch = collate_preferences(rows, range(7))
    assert batch["good"].tolist() == [n % 3 == 0 for n in range(7)]
    assert batch["shared"] == 0


def test_a_mismatched_pair_is_one_prompt_with_anothers_answer(made: Any) -> None:
    rows, *_ = judged_rows(made, 7)
    batch = collate_mismatched(rows, [(2, 5)], most=1000)
    (own, start), (other, begin) = rows.sides(2)[0], rows.sides(5)[0]
    assert batch["input_ids"][0].tolist() == [*own[:start], *other[begin:]]
    assert batch["targets"][0].tolist() == [-100] * (start - 1) + other[begin:].tolist() + [-100]
    short = collate_mismatched(rows, [(2, 5)], most=start + 2)
    assert short["input_ids"][0].tolist() == [*own[:start], *other[begin : begin + 2]]


def test_mismatched_is_a_circle_without_a_fixed_point() -> None:
    for count in (2, 3, 16):
        partner = pair_mismatched(range(count), range(count), (3, 7))
        assert sorted(partner) == sorted(partner.values()) == list(range(count))
        assert all(a != b for a, b in partner.items())
    assert pair_mismatched([4], "a", (3, 7)) == pair_mismatched([], "", (3, 7)) == {}
    assert pair_mismatched(range(16), range(16), (3, 7)) != pair_mismatched(range(16), range(16), (3, 8))


@pytest.mark.parametrize("count", range(2, 6))
def test_an_answer_to_the_same_prompt_is_never_a_mismatch(count: int) -> None:
    """Every way in which up to five rows can share prompts, in every order, against every assignment there is."""
    for prompts in product(range(count), repeat=count):
        partner = pair_mismatched(range(count), prompts, (3, 7))
        assert sorted(partner) == (list(range(count)) if len(set(prompts)) > 1 else [])
        assert all(prompts[a] != prompts[b] for a, b in partner.items())
        once = any(all(prompts[a] != prompts[b] for a, b in enumerate(way)) for way in permutations(range(count)))
        if once:
            assert sorted(partner.values()) == list(range(count))
        elif partner:  # the few serve the many in turn
            served = Counter(partner.values())
            most = prompts.count(max(prompts, key=prompts.count))
            assert {served[n] for n in partner if prompts.count(prompts[n]) < most} <= {most // (count - most), -(-most // (count - most))}


def test_a_row_knows_its_prompt_however_much_of_it_is_cut(made: Any) -> None:
    asked = [{"prompt": q + " word" * 30, "completion": f"answer{' word' * n}", "label": True} for n in range(0, 9, 4) for q in ("a", "b")]
    rows, _, report, *_ = made(asked, "kto", max_length=60, too_long="truncate")
    assert report.truncated > 0
    prompts = [rows.prompt(i) for i in range(len(rows))]
    assert (len(rows), len(set(prompts))) == (6, 2)
    assert [p == prompts[0] for p in prompts] == [n % 2 == 0 for n in range(6)]
    (batch,) = build_val_loader(rows, 6, ahead=Ahead.mismatched)
    pairs = pair_mismatched(batch["step_rows"], [prompts[n] for n in batch["step_rows"]], ())
    assert {prompts[a] != prompts[b] for a, b in pairs.items()} == {True}
    part = batch["ahead"][0]
    for row, ids, targets in zip(part["rows"], part["input_ids"], part["targets"], strict=True):
        other, begin = rows.sides(pairs[row])[0]
        answer = ids[1:][targets[:-1] >= 0].tolist()
        assert answer == other[begin:].tolist()[: len(answer)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_step_is_seen_ahead_by_all_processes_together_whatever_the_cut(made: Any, processes: int) -> None:
    rows, *_ = judged_rows(made, 11)

    def seen(micro_batch: int) -> list[tuple[int, ...]]:
        found = []
        for rank in range(processes):
            order = StepSampler(rows.lengths, 5, micro_batch, processes, rank, 3, True)
            for n, batch in enumerate(build_train_loader(rows, order, lambda: 0, ahead=Ahead.mismatched)):
                assert ("ahead" in batch) == (n % order.micro_batches_per_step == 0)
                found += [
                    (n // order.micro_batches_per_step, int(row), *ids[t >= 0].tolist()) for part in batch.get("ahead", [])
                    for row, ids, t in zip(part["rows"], part["input_ids"], part["targets"], strict=True)
                ]
                assert batch["step_targets"] in (5, 1)
        return sorted(found)

    whole = seen(5)
    assert len(whole) == 10  # two steps of five; the last step has one row, which has no other to be mismatched with
    assert seen(2) == seen(1) == whole


def test_an_evaluation_is_seen_ahead_as_one_step(made: Any) -> None:
    rows, *_ = made(records(7))
    first, *others = build_val_loader(rows, 2, ahead=Ahead.rows)
    assert sorted(n for part in first["ahead"] for n in part["rows"]) == sorted(first["step_rows"]) == list(range(7))
    assert not any("ahead" in batch for batch in others)
    empty = list(build_val_loader(rows, 7, processes=2, rank=1, ahead=Ahead.rows))
    assert len(empty) == 1
    assert empty[0]["input_ids"].shape == torch.Size([0, 0])
    assert json.dumps(empty[0]["ahead"]) == "[]"


def test_the_shipped_pairs_are_whole_and_length_does_not_tell() -> None:
    source = build_source(GuidePreference(), stage="dpo", seed=1)
    assert source.check().good == 64
    sides = [(e.messages[-1].content, e.rejected[-1].content) for e in source.examples()]  # type: ignore[union-attr,index]
    longer = sum(len(chosen) > len(rejected) for chosen, rejected in sides)
    assert 0.4 < longer / 64 < 0.6
    assert len({e.messages[0].content for e in source.examples()}) == 64  # type: ignore[union-attr,index]
    with pytest.raises(DataError, match=r"stage=dpo learns from pairs of answers; take stage=sft or data=guide_preference\."):
        build_source(Guide(), stage="dpo", seed=1)


def test_a_pair_in_kto_is_a_good_answer_and_a_bad_one_and_both_are_held_out_or_none(made: Any) -> None:
    rows, val, report, _, source = made(records(60), "kto", val_fraction=0.05)
    assert source.format == "preference"
    assert "they are 60 pairs, each taken for one good answer and one bad" in source.checked.words(source)
    assert (report.rows_in, report.pairs_split, report.balanced) == (120, 60, True)
    assert "made of 60 pairs, a good answer and a bad one each" in report.sentence()
    examples = list(source.examples())
    assert [e.good for e in examples] == [True, False] * 60
    assert all(first.messages[:-1] == second.messages[:-1] for first, second in zip(examples[::2], examples[1::2], strict=True))
    for part in (rows, val):
        lines = [part.places(i)[0] for i in range(len(part))]
        assert all(lines.count(line) == 2 for line in lines)
        assert sum(part.good(i) for i in range(len(part))) == len(part) / 2
    assert len(val) >= 20
    ours, theirs = ({rows_of.places(i)[0] for i in range(len(rows_of))} for rows_of in (rows, val))
    assert not ours & theirs
    asked = choose_sample_prompts(None, source, val)
    assert len({prompt[-1].content for prompt in asked}) == len(asked) == 5
