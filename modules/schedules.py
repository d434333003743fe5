"""What changes over the course of a training: the weights of the two sets, the temperature, the weight of the KL term.

Progress is the number of optimizer steps made over all there will be, from 0 up to 1; it is the same for all rows of a
window, so that a window's gradient does not depend on how the window is cut.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from labelbridge.lightning_app.core.errors import InputError

from .losses import Objective

SetSchedule = Literal["synthetic_first", "shift"]


@dataclass(frozen=True)
class Schedules:
    """Settings of the schedules; all off by default.

    Args:
        sets: `synthetic_first`: up to `turn` of the training gold weighs 0 and synthetic rows 1 / turn, then gold
            1 / (1 - turn) and synthetic rows 0. `shift`: gold weighs 2u and synthetic rows 2 (1 - u) at progress u. The
            mean of either weight over the training is 1.
        turn: Where `synthetic_first` turns, as a share of the optimizer steps.
        temperature_end: T at the end, to which it goes linearly from `temperature`; null keeps it.
        kl_weight_end: The same for `kl_weight`.

    Raises:
        InputError: If a number is out of its range.
    """

    sets: SetSchedule | None = None
    turn: float = 0.5
    temperature_end: float | None = None
    kl_weight_end: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.turn < 1:
            raise InputError(f"model.schedule_turn is {self.turn}, expected 0 < schedule_turn < 1")
        if self.temperature_end is not None and self.temperature_end <= 0:
            raise InputError(f"model.temperature_end is {self.temperature_end}, expected a number above 0")
        if self.kl_weight_end is not None and self.kl_weight_end < 0:
            raise InputError(f"model.kl_weight_end is {self.kl_weight_end}, expected 0 or more")

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are on."""
        turn = {"schedule_turn": self.turn} if self.sets == "synthetic_first" else {}
        own = {
            "schedule": self.sets, "temperature_end": self.temperature_end, "kl_weight_end": self.kl_weight_end,
        }  # fmt: skip
        return {**{name: value for name, value in own.items() if value is not None}, **turn}

    def set_factors(self, progress: float) -> tuple[float, float]:
        """Further weights of gold and of synthetic rows."""
        if self.sets == "shift":
            return 2 * progress, 2 * (1 - progress)
        if self.sets == "synthetic_first":
            return (0.0, 1 / self.turn) if progress < self.turn else (1 / (1 - self.turn), 0.0)
        return 1.0, 1.0

    def objective(self, objective: Objective, progress: float) -> Objective:
        """The objective with its temperature and KL weight of this moment."""
        ends = {"temperature": self.temperature_end, "kl_weight": self.kl_weight_end}
        moved: dict[str, Any] = {
            name: (1 - progress) * getattr(objective, name) + progress * end
            for name, end in ends.items()
            if end is not None
        }
        return replace(objective, **moved) if moved else objective
