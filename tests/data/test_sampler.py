"""The order of examples: a pure function of seed, epoch and step."""

from __future__ import annotations

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest

from fulgurite.data.sampler import StepSampler, pair_mismatched

LENGTHS = np.array([5, 90, 17, 33, 8, 64, 12, 40, 3, 71, 25])


def order(
    batch: int = 4, micro: int = 2, processes: int = 1, rank: int = 0, seed: int = 7, shuffle: bool = True
) -> StepSampler:
    return StepSampler(LENGTHS, batch, micro, processes, rank, seed, shuffle)


def flat(order: StepSampler, steps: range) -> list[list[list[int]]]:
    return [order.list_micro_batches(s) for s in steps]


@pytest.mark.parametrize(("batch", "micro", "shuffle"), list(product([1, 4, 11, 20], [1, 3], [True, False])))
def test_each_epoch_is_a_permutation(batch: int, micro: int, shuffle: bool) -> None:
    made = order(batch, micro, shuffle=shuffle)
    assert made.steps_per_epoch == -(-len(LENGTHS) // batch)
    for epoch in range(3):
        steps = range(epoch * made.steps_per_epoch, (epoch + 1) * made.steps_per_epoch)
        seen = [n for step in flat(made, steps) for cut in step for n in cut]
        assert sorted(seen) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("processes", [1, 2])
def test_stop_and_resume_at_every_step_of_three_epochs(processes: int) -> None:
    for rank in range(processes):
        whole = flat(order(processes=processes, rank=rank), range(9))
        for stop in range(10):
            first = flat(order(processes=processes, rank=rank), range(stop))
            assert first + flat(order(processes=processes, rank=rank), range(stop, 9)) == whole


@pytest.mark.parametrize(("batch", "micro", "processes"), list(product([1, 4, 7], [1, 2, 3], [1, 2, 3])))
def test_ranks_share_each_step(batch: int, micro: int, processes: int) -> None:
    ranks = [order(batch, micro, processes, rank) for rank in range(processes)]
    for step in range(2 * ranks[0].steps_per_epoch):
        cuts = [r.list_micro_batches(step) for r in ranks]
        assert {len(c) for c in cuts} == {ranks[0].micro_batches_per_step}
        shared = sorted(n for c in cuts for cut in c for n in cut)
        assert shared == sorted(map(int, ranks[0].list_rows(step)))
        assert len(set(shared)) == len(shared)
        assert all(len(cut) <= micro for c in cuts for cut in c)


def test_empty_micro_batches_come_first() -> None:
    made = order(batch=4, micro=1)  # 11 rows: the third step has 3
    cuts = made.list_micro_batches(2)
    assert [len(c) for c in cuts] == [0, 1, 1, 1]


def test_neighbours_in_length_share_a_micro_batch_and_meet_over_the_ranks() -> None:
    ranks = [order(batch=8, micro=2, processes=2, rank=r, shuffle=False) for r in (0, 1)]
    lengths = [[[int(LENGTHS[n]) for n in cut] for cut in r.list_micro_batches(0)] for r in ranks]
    assert lengths == [[[5, 8], [33, 40]], [[12, 17], [64, 90]]]


def test_seed_and_epoch_change_the_order_and_shuffle_false_keeps_it() -> None:
    a, b = order(), order(seed=8)
    assert list(a.permutation(0)) != list(a.permutation(1))
    assert list(a.permutation(0)) != list(b.permutation(0))
    assert list(order(shuffle=False).permutation(5)) == list(range(len(LENGTHS)))


def test_mismatched_pairs_are_a_circle_without_a_fixed_point() -> None:
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
            assert {served[n] for n in partner if prompts.count(prompts[n]) < most} <= {most // (count - most),
                -(-most // (count - most))}
