"""What changes over the course of a training: the weights of the two sets, the temperature, the weight of the KL term.

Progress is the number of optimizer steps made over all there will be, from 0 up to 1; it is the same for all rows of a
window, so that a window's gradient does not depend on how the window is cut.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from labelbridge.lightning_app.core.ranges import NonNegativeFloat, PositiveFloat, Turn, check_fields

from .losses import Objective

SetSchedule = Literal["synthetic_first", "shift"]


@dataclass(frozen=True)
class Schedules:
    """Settings of the schedules; all off by default.

    Args:
        sets: `synthetic_first`: up to the turn gold weighs 0 and synthetic rows 1 / turn, then gold
            1 / (1 - turn) and synthetic rows 0. `shift`: gold weighs 2u and synthetic rows 2 (1 - u) at progress u. The
            mean of either weight over the training is 1.
        schedule_turn: Where `synthetic_first` turns, as a share of the optimizer steps.
        temperature_end: T at the end, to which it goes linearly from `temperature`; null keeps it.
        kl_weight_end: The same for `kl_weight`.

    Raises:
        InputError: If a number is out of its range.
    """

    sets: SetSchedule | None = None
    schedule_turn: Turn = 0.5
    temperature_end: PositiveFloat | None = None
    kl_weight_end: NonNegativeFloat | None = None

    def __post_init__(self) -> None:
        check_fields(self, "model.")

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that are on."""
        turn = {"schedule_turn": self.schedule_turn} if self.sets == "synthetic_first" else {}
        own = {
            "schedule": self.sets, "temperature_end": self.temperature_end, "kl_weight_end": self.kl_weight_end,
        }  # fmt: skip
        return {**{name: value for name, value in own.items() if value is not None}, **turn}

    def set_factors(self, progress: float) -> tuple[float, float]:
        """Further weights of gold and of synthetic rows."""
        if self.sets == "shift":
            return 2 * progress, 2 * (1 - progress)
        if self.sets == "synthetic_first":
            turn = self.schedule_turn
            return (0.0, 1 / turn) if progress < turn else (1 / (1 - turn), 0.0)
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
