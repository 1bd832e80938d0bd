"""The position of a run, and the state of Lightning's loops at that position.

Lightning saves its loop counters as they are at the moment of saving, which differ from hook to hook, and guesses the
hook when it loads them (its RestartStage). Here only the position is stored, and the counters are built from it at
loading: `step` optimizer steps done, none begun. The names are those of lightning 2.6, and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

KEY = "position"
"""The key of a checkpoint's state under which our own values are."""


@dataclass(frozen=True, slots=True)
class Position:
    """`step` optimizer steps are done, `per_epoch` make an epoch; `evaluated` is false while one is due now."""

    step: int
    per_epoch: int
    evaluated: bool = True


def build_fit_loop_state(position: Position, micro_batches: int) -> dict[str, Any]:
    """Returns the state for `trainer.fit_loop.load_state_dict`; `micro_batches` make an optimizer step.

    Between two epochs it is the beginning of the new one, so that no epoch ends twice. Only if the last step's
    evaluation is still due, it is the end of the old one, because evaluations belong to their step's epoch.
    """
    # Complete epochs, and optimizer steps within the one that is under way.
    epochs, steps = divmod(position.step, position.per_epoch)
    owed = not position.evaluated
    if owed and steps == 0 and epochs > 0:
        # The step ended its epoch and its evaluation is due: stay at the end of that epoch.
        epochs, steps = epochs - 1, position.per_epoch
    # An epoch counts as begun only if a step of it was taken.
    inside = steps > 0
    batches, all_batches = steps * micro_batches, position.step * micro_batches
    return {
        "state_dict": {},
        "epoch_progress": _build_progress(
            _count_four(epochs, begun=int(inside)), _count_four(epochs, begun=int(inside))
        ),
        # Lightning's step number for loggers; it is increased after the evaluation, which is still due if `owed`.
        "epoch_loop.state_dict": {"_batches_that_stepped": position.step - int(owed)},
        "epoch_loop.batch_progress": {
            **_build_progress(_count_four(all_batches), _count_four(batches)),
            "is_last_batch": steps == position.per_epoch,
        },
        "epoch_loop.scheduler_progress": _build_progress(_count_two(position.step), _count_two(steps)),
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {
                "step": _build_progress(_count_two(position.step), _count_two(steps)),
                "zero_grad": _build_progress(_count_three(position.step), _count_three(steps)),
            }
        },
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": _build_progress(
            _count_two(position.step), _count_two(steps)
        ),
        "epoch_loop.val_loop.state_dict": {},
        # from "begun and not processed" Lightning concludes that it has to go back and evaluate
        "epoch_loop.val_loop.batch_progress": {
            **_build_progress(_count_four(0, begun=int(owed)), _count_four(0, begun=int(owed))),
            "is_last_batch": False,
        },
    }


def _build_progress(total: dict[str, int], current: dict[str, int]) -> dict[str, Any]:
    return {"total": total, "current": current}


def _count_two(done: int) -> dict[str, int]:
    return {"ready": done, "completed": done}


def _count_three(done: int) -> dict[str, int]:
    return {**_count_two(done), "started": done}


def _count_four(done: int, begun: int = 0) -> dict[str, int]:
    return {"ready": done + begun, "started": done + begun, "processed": done, "completed": done}
