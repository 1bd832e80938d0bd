"""Early stopping: the run ends when val/loss has not fallen for so many evaluations."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason


class BestEarlyStopping(EarlyStopping):  # type: ignore[misc]
    """Lightning's EarlyStopping on what the best checkpoint is chosen by, of which less is better in every stage (ppo
    and grpo: minus the reward). Any fall counts, and a value that is no number counts as none."""

    state_key = "patience"
    """Where a checkpoint keeps its count: `checkpoint.resume` looks there."""

    def __init__(self, patience: int) -> None:
        super().__init__("val/loss", patience=patience, check_finite=False, check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The count and the best value; the patience is that of today, which resume.allow may have let change."""
        super().load_state_dict(
            state_dict | {"patience": self.patience, "stopping_reason": EarlyStoppingReason.NOT_STOPPED.value}
        )

    @property
    def ended(self) -> bool:
        """Whether it was this that ended the run."""
        return bool(self.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED)
