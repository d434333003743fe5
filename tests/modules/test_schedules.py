"""Weights and temperatures that change over the training."""

import numpy as np
import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.modules.losses import Objective
from labelbridge.modules.schedules import Schedules


@pytest.mark.parametrize(
    "schedules", [Schedules("shift"), Schedules("synthetic_first"), Schedules("synthetic_first", 0.2)]
)
def test_either_set_weighs_one_in_the_mean_over_the_training(schedules: Schedules):
    steps = 1000
    factors = np.array([schedules.set_factors((step + 0.5) / steps) for step in range(steps)])
    assert factors.mean(axis=0) == pytest.approx([1, 1])


def test_synthetic_rows_come_first_and_then_gold():
    turn = Schedules("synthetic_first", 0.25)
    assert turn.set_factors(0.24) == (0.0, 4.0)
    assert turn.set_factors(0.25) == pytest.approx((4 / 3, 0.0))
    assert Schedules("shift").set_factors(0.25) == (0.5, 1.5)
    assert Schedules().set_factors(0.9) == (1.0, 1.0)


def test_temperature_and_weight_go_linearly_to_their_ends():
    schedules = Schedules(temperature_end=1.0, kl_weight_end=0.0)
    start = Objective(temperature=3.0, kl_weight=2.0)
    moved = schedules.objective(start, 0.5)
    assert (moved.temperature, moved.kl_weight) == (2.0, 1.0)
    assert schedules.objective(start, 0.0) == start
    assert Schedules().objective(start, 0.7) is start


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule_turn": 1.0}, "model.schedule_turn is 1.0"), ({"temperature_end": 0}, "model.temperature_end is 0"),
        ({"kl_weight_end": -1}, "model.kl_weight_end is -1"),
    ],
)  # fmt: skip
def test_schedules_out_of_range_are_refused(wrong: dict, said: str):
    with pytest.raises(InputError, match=said):
        Schedules(**wrong)
