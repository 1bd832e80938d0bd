"""A rollout that is learned from: its cuts into steps, and its state in a checkpoint."""

from __future__ import annotations

import pytest
import torch

from fulgurite.stage.rollout import Drawn
from fulgurite.stage.rollout_buffer import Buffer, Cuts


@pytest.mark.parametrize(("answers", "minibatches", "micro"), [(12, 1, 5), (12, 3, 4), (7, 2, 3), (5, 4, 1)])
def test_each_inner_epoch_sees_every_answer_once_in_steps_of_equal_micro_batches(
    answers: int, minibatches: int, micro: int
) -> None:
    cuts = Cuts(answers, minibatches, 2, micro, 42)
    lengths = [(7 * n) % 5 for n in range(answers)]
    seen = []
    for phase in range(cuts.steps):
        step = cuts.step(3, phase, lengths)
        assert len(step) == cuts.micro_batches
        assert step[-1]  # the optimizer steps after the last one, which has work in it
        assert max(map(len, step)) <= micro
        seen.append([n for cut in step for n in cut])
    first, second = (sorted(n for step in seen[e * minibatches : (e + 1) * minibatches] for n in step) for e in (0, 1))
    assert first == second == list(range(answers))
    assert cuts.step(3, 0, lengths) == Cuts(answers, minibatches, 2, micro, 42).step(3, 0, lengths)
    assert [cuts.step(r, 0, lengths) for r in range(4)] != [cuts.step(3, 0, lengths)] * 4 or minibatches == 1


@pytest.mark.parametrize(("answers", "minibatches", "micro"), [(12, 1, 5), (12, 3, 4), (7, 2, 3), (5, 4, 1)])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_micro_batches_of_one(answers: int, minibatches: int, micro: int, processes: int) -> None:
    lengths = [(7 * n) % 5 for n in range(answers)]
    alone, shared = (Cuts(answers, minibatches, 2, micro, 42, count) for count in (1, processes))
    for phase in range(alone.steps):
        cuts = shared.step(3, phase, lengths)
        assert [len(cuts[rank::processes]) for rank in range(processes)] == [shared.micro_batches] * processes
        assert list(filter(None, cuts)) == list(filter(None, alone.step(3, phase, lengths)))


def test_a_buffer_survives_its_state() -> None:
    drawn = Drawn([[3, 4], [5]], [[-1.0, -2.0], [-3.0]], [True, False])
    buffer = Buffer.of(2, [7, 8], [[1, 2], [1, 2, 9]], drawn, torch.device("cpu"))
    assert buffer.targets_NT.tolist() == [[-100, 3, 4, -100], [-100, -100, 5, -100]]
    assert buffer.of_token["drawn"].tolist() == [[0, -1, -2, 0], [0, 0, -3, 0]]
    buffer.of_answer["advantages"], buffer.record = torch.tensor([1.0, -1.0]), {"train/reward": 0.5}
    again = Buffer.from_state(buffer.get_state(), torch.device("cpu"))
    one, two = buffer.build_micro_batch([1]), again.build_micro_batch([1])
    assert one.keys() == two.keys() == {
        "input_ids", "targets", "label_positions", "own", "drawn", "advantages", "rows", "tokens",
    }
    assert one["label_positions"].tolist() == (one["targets"] >= 0).flatten().nonzero()[:, 0].tolist()
    assert all(torch.equal(one[k], two[k]) if isinstance(one[k], torch.Tensor) else one[k] == two[k] for k in one)
    assert (two["rows"], two["tokens"], again.record, again.number) == ([8], 4, {"train/reward": 0.5}, 2)
